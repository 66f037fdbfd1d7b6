"use strict";
(() => {
  // Theme: the system's until the button is pressed.
  const root = document.documentElement, theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const label = () => { theme.textContent = dark() ? "Light" : "Dark"; theme.setAttribute("aria-pressed", String(dark())); };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
  system.addEventListener("change", label);
  label();

  // Tables: a press on a head sorts by that column, another turns the order around. Rows without a number stay last.
  const cell = (row, at) => {
    const data = row.cells[at].querySelector("[data-value]");
    return data ? data.dataset.value : row.cells[at].textContent.trim();
  };
  for (const button of document.querySelectorAll("th .sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), body = head.closest("table").tBodies[0], at = head.cellIndex;
      const numeric = head.classList.contains("n");
      const before = head.getAttribute("aria-sort");
      const down = before === "none" ? numeric : before === "ascending";
      const order = (a, b) => {
        const [x, y] = [cell(a, at), cell(b, at)];
        if (!numeric) return (down ? -1 : 1) * x.localeCompare(y, undefined, { numeric: true });
        const [p, q] = [parseFloat(x), parseFloat(y)];
        if (isNaN(p) || isNaN(q)) return isNaN(p) - isNaN(q);
        return down ? q - p : p - q;
      };
      for (const other of head.parentElement.cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...[...body.rows].sort(order));
    });
  }

  // Examples: the slider cuts the upper picture, the buttons choose it.
  for (const example of document.querySelectorAll(".example")) {
    const stage = example.querySelector(".stage"), range = example.querySelector("input[type=range]");
    const cut = () => stage.style.setProperty("--cut", `${range.value}%`);
    range.addEventListener("input", cut);
    cut();
    const buttons = [...example.querySelectorAll("button[data-show]")];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        for (const picture of stage.querySelectorAll(".upper")) picture.hidden = picture.dataset.kind !== button.dataset.show;
        range.setAttribute("aria-valuetext", `${button.textContent} over the left part`);
        if (Number(range.value) < 5) { range.value = 100; cut(); }
      });
    }
  }

  // Matrices: the cell under the pointer or the focus is read out below; arrow keys walk through the cells.
  for (const matrix of document.querySelectorAll(".matrix")) {
    const says = matrix.querySelector("output"), cells = [...matrix.querySelectorAll("td[title]")];
    const tell = (event) => { const found = event.target.closest("td[title]"); if (found) says.textContent = found.title; };
    matrix.addEventListener("pointerover", tell);
    matrix.addEventListener("focusin", tell);
    matrix.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const from = event.target.closest("td[title]");
      if (!step || !from) return;
      const rows = [...from.closest("table").querySelectorAll("tbody tr")];
      const row = rows[rows.indexOf(from.parentElement) + step[0]], to = row && row.cells[from.cellIndex + step[1]];
      if (!to || !to.title) return;
      event.preventDefault();
      for (const other of cells) other.tabIndex = other === to ? 0 : -1;
      to.focus();
    });
  }

  // Legends: the line whose name is under the pointer or has the focus comes forward.
  for (const key of document.querySelectorAll("[data-line]")) {
    const line = document.getElementById(key.dataset.line);
    if (!line) continue;
    const mark = (on) => () => line.classList.toggle("forward", on);
    for (const event of ["pointerenter", "focusin"]) key.addEventListener(event, mark(true));
    for (const event of ["pointerleave", "focusout"]) key.addEventListener(event, mark(false));
  }
})();
(() => {
  // Long tables are one stop of the tab key; arrow keys go from row to row.
  for (const body of document.querySelectorAll("tbody.walk")) {
    body.addEventListener("keydown", (event) => {
      const from = event.target.closest("tr");
      const to = event.key === "ArrowDown" ? from.nextElementSibling : event.key === "ArrowUp" ? from.previousElementSibling : null;
      if (!to) return;
      event.preventDefault();
      for (const row of body.rows) row.tabIndex = row === to ? 0 : -1;
      to.focus();
    });
  }
})();
