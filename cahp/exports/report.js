// The report as a host of the board.
const board = document.getElementById("board");
mount(board, JSON.parse(document.getElementById("board-data").textContent));
