"use strict";
(() => {
  // Themes: the system's, or the one chosen here.
  const names = ["as the system", "light", "dark"];
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const store = (value) => { try { return value === undefined ? localStorage.getItem("theme") : localStorage.setItem("theme", value); } catch { return null; } };
  const show = (name) => {
    if (name === names[0]) delete root.dataset.theme; else root.dataset.theme = name;
    button.textContent = "Colours: " + name;
  };
  let theme = names.includes(store()) ? store() : names[0];
  show(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = names[(names.indexOf(theme) + 1) % names.length];
    show(theme);
    store(theme);
  });

  // Tables: empty cells stay last whichever way is sorted.
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell === undefined) return null;
    if (cell.dataset.k !== undefined) return Number(cell.dataset.k);
    return cell.textContent === "" ? null : cell.textContent;
  };
  const order = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : typeof a === typeof b ? a.localeCompare(b) : typeof a === "number" ? -1 : 1;
  const sort = (table, column, head) => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row, column), row]);
    rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * order(a, b));
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    table.dataset.sorted = "";
    body.append(...rows.map((it) => it[1]));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const inner = document.createElement("button");
      inner.type = "button";
      inner.append(...head.childNodes);
      inner.addEventListener("click", () => sort(table, column, head));
      head.append(inner);
    });
  }

  // What a link leads to is opened; all of it on demand, and figures for the printer.
  const reach = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", reach);
  reach();
  const tables = [...document.querySelectorAll("details.table")];
  const unfold = document.getElementById("unfold");
  if (unfold) {
    unfold.hidden = false;
    unfold.addEventListener("click", () => {
      const open = tables.some((it) => !it.open);
      for (const it of tables) it.open = open;
      unfold.textContent = open ? "Close all" : "Open all";
    });
  }
  addEventListener("beforeprint", () => {
    for (const it of document.querySelectorAll("details.more")) it.open = true;
  });

  // A figure is shown as wide as the page, or in full size within its own scroll bar.
  for (const figure of document.querySelectorAll("figure")) {
    figure.tabIndex = 0;
    const toggle = () => figure.classList.toggle("wide");
    figure.querySelector("svg").addEventListener("click", toggle);
    figure.addEventListener("keydown", (event) => { if (event.key === "Enter") toggle(); });
  }
})();
