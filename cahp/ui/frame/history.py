"""Back and Forward: a page is an entry of the browser's history, and what moves on it changes that entry.

Streamlit makes an entry of every change of the address: of each budget that a slider passed. Whoever goes back then
sees an older address of the page where they are. A script in the page, which runs before all else, makes those changes
replace the entry; entries are made where a page was changed. Going back or forward then runs that page with its
address, and the page takes that over (``address.came_back``).
"""

from __future__ import annotations

#: At the head of every page.
SCRIPT = """<script>
{
  const { pushState, replaceState } = history;
  history.pushState = function (state, unused, url) {
    const here = new URL(url ?? location.href, location.href).pathname === location.pathname;
    return (here ? replaceState : pushState).call(history, state, unused, url);
  };
}
</script>"""
