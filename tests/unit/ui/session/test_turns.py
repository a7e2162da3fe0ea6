"""Whose turn it is, without threads."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cahp.ui.session.jobs import Job, Worker


class Queue(Worker):
    """A queue without threads."""

    def __init__(self, sessions: str = "") -> None:
        super().__init__()
        for session in sessions:
            self.add(session)

    def add(self, session: str) -> Job[Any]:
        job: Job[Any] = Job(self, session, "work", lambda _: None)
        self.put(job)
        return job

    def put(self, job: Job[Any]) -> None:
        with self._change:
            self._enter(job)

    def serve(self) -> str:
        """Take the next job and end it; return its session (empty: there is none)."""
        job = self._take()
        if job is None:
            return ""
        job.cancel()
        self._working.remove(job)
        return job.session_id


def serve_all(queue: Queue) -> str:
    return "".join(iter(queue.serve, ""))


@pytest.mark.parametrize(("came", "goes"), [("", ""), ("aaa", "aaa"), ("aaab", "abaa"), ("aaabbc", "abcaba")])
def test_sessions_take_turns(came: str, goes: str) -> None:
    assert serve_all(Queue(came)) == goes


@given(st.text("abcd", max_size=12), st.integers(0, 6))
def test_the_places_that_are_told_are_the_order_that_comes(came: str, before: int) -> None:
    queue = Queue(came)
    for _ in range(before):
        queue.serve()
    places = {job.place: job.session_id for job in queue.unfinished() if job.place is not None}
    assert "".join(places[number] for number in sorted(places)) == serve_all(queue)


@given(st.text("abcd", min_size=1, max_size=12))
def test_nobody_waits_for_two_turns_of_another(came: str) -> None:
    goes = serve_all(Queue(came))
    for session in set(came):
        first = goes.index(session)
        assert all(goes[:first].count(other) <= 1 for other in set(came))
