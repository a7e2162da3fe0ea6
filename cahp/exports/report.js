// A report, or a page of several runs, as a host of the board: each element of data belongs to the board before it.
const boards = document.querySelectorAll(".live-board");
const page = boards.length === 1;
document.querySelectorAll(".board-data").forEach((data, index) => mount(boards[index], JSON.parse(data.textContent), null, null, page));
