// What scrolls sideways can be reached by keys.
addEventListener("load", () => {
  for (const one of document.querySelectorAll("pre, .output, .table-wrapper, .equation, .widget")) {
    if (one.scrollWidth > one.clientWidth) one.tabIndex = 0;
  }
});
