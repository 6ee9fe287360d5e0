"use strict";
/* Sortable tables and the image viewer. The page is readable without this script. */
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const naturally = new Intl.Collator("en", { numeric: true }).compare;

  /* An image is embedded at its first occurrence; later occurrences reuse it. */
  for (const image of all("img[data-same]")) image.src = document.getElementById(image.dataset.same).src;

  /* Sort rows by a number, stably; rows without a number come last. */
  function byNumber(rows, number, sign) {
    const keyed = rows.map(row => [number(row), row]);
    const known = keyed.filter(([value]) => Number.isFinite(value)).sort((a, b) => sign * (a[0] - b[0]));
    return [...known, ...keyed.filter(([value]) => !Number.isFinite(value))].map(([, row]) => row);
  }

  /* Seeded random numbers in [0, 1), equal in every browser (mulberry32). */
  function randomFrom(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }
  function shuffled(rows, seed) {
    const order = [...rows], random = randomFrom(seed);
    for (let last = order.length - 1; last > 0; last--) {
      const other = Math.floor(random() * (last + 1));
      [order[last], order[other]] = [order[other], order[last]];
    }
    return order;
  }

  /* Tables of scores: a header sorts best first, worst first, then in the original order; kinds stay together. */
  for (const table of all("table.results")) {
    const given = new Map(all("tbody", table).map(body => [body, all("tr:not(.kind)", body)]));
    const buttons = all("[data-sort]", table);
    for (const button of buttons) button.addEventListener("click", () => {
      const head = button.closest("th");
      const best = "lower" in button.dataset ? "ascending" : "descending";
      const worst = best === "ascending" ? "descending" : "ascending";
      const next = { none: best, [best]: worst, [worst]: "none" }[head.ariaSort];
      for (const other of buttons) other.closest("th").ariaSort = "none";
      head.ariaSort = next;
      const value = row => Number(row.querySelector(`[data-score="${button.dataset.sort}"]`)?.dataset.value ?? NaN);
      for (const [body, rows] of given)
        body.append(...(next === "none" ? rows : byNumber(rows, value, next === "ascending" ? 1 : -1)));
    });
  }

  const viewer = document.getElementById("viewer");

  /* Tables of images. */
  function imageTable(root) {
    const table = root.querySelector("table"), given = all("tbody.row", table);
    const first = Number(root.dataset.first), pageSize = Number(root.dataset.pageSize);
    const metric = root.querySelector("[data-metric]"), seed = root.querySelector("[data-seed]");
    const orders = all("[data-order]", root), more = root.querySelector(".more"), status = root.querySelector(".status");
    let order = "given", rows = given, shown = Math.min(first, rows.length);

    const score = row => Number(row.querySelector(`[data-score="${metric.value}"]`)?.value ?? NaN);
    const higherIsBetter = () => !("lower" in metric.selectedOptions[0].dataset);
    const sorted = {
      given: () => given,
      number: () => [...given].sort((a, b) => naturally(a.dataset.name, b.dataset.name)),
      best: () => byNumber(given, score, higherIsBetter() ? -1 : 1),
      worst: () => byNumber(given, score, higherIsBetter() ? 1 : -1),
      random: () => shuffled([...given].sort((a, b) => naturally(a.dataset.name, b.dataset.name)), Number(seed.value)),
    };

    function show(count) {
      shown = Math.min(count, rows.length);
      rows.forEach((row, index) => { row.hidden = index >= shown; });
      more.hidden = shown === rows.length;
      more.firstElementChild.textContent = `Show ${Math.min(pageSize, rows.length - shown)} more`;
      const by = ["best", "worst"].includes(order) ? ` ${metric.selectedOptions[0].text}` : "";
      const how = { given: "", number: ", by number", best: `, best${by} first`, worst: `, worst${by} first`,
        random: `, in random order, seed ${seed.value}` }[order];
      status.textContent = `${shown} of ${rows.length} shown${how}`;
    }
    function arrange(next) {
      order = next;
      rows = sorted[order]();
      table.append(...rows);
      for (const button of orders) button.ariaPressed = String(button.dataset.order === order);
      table.querySelector("[data-names]").ariaSort = { given: "none", number: "ascending" }[order] ?? "other";
      const chosen = ["best", "worst"].includes(order) ? metric.value : null;
      for (const found of all("data[data-score]", table))
        found.parentElement.classList.toggle("sorted", found.dataset.score === chosen);
      seed.parentElement.hidden = order !== "random";
      show(first);
    }

    for (const button of orders) button.addEventListener("click", () => arrange(button.dataset.order));
    metric?.addEventListener("change", () => arrange(order === "worst" ? "worst" : "best"));
    seed.addEventListener("change", () => arrange("random"));
    root.querySelector("[data-more]").addEventListener("click", () => {
      const next = rows[shown];
      show(shown + pageSize);
      next.querySelector("button.image")?.focus({ preventScroll: true });
    });
    root.querySelector("[data-all]").addEventListener("click", () => show(rows.length));
    table.addEventListener("click", event => {
      const button = event.target.closest("button.image");
      if (button) open(button.closest("tbody"), all("button.image", button.closest("tbody")).indexOf(button));
    });
    root.querySelector(".controls").hidden = false;
    root.classList.add("compact");
    show(shown);

    return { rows: () => rows, reveal: row => rows.indexOf(row) >= shown && show(rows.indexOf(row) + 1) };
  }
  const tables = new Map(all(".images").map(root => [root, imageTable(root)]));

  /* The viewer: all images of one row, enlarged. Arrow keys change the row; closing returns to the last row shown. */
  let current = null, column = 0;
  const tableOf = row => tables.get(row.closest(".images"));

  function open(row, from) {
    column = from;
    fill(row);
    viewer.showModal();
  }
  function fill(row) {
    current = row;
    const rows = tableOf(row).rows(), text = selector => row.querySelector(selector)?.textContent ?? "";
    viewer.querySelector("h2").textContent = row.dataset.name;
    viewer.querySelector(".position").textContent = `${rows.indexOf(row) + 1} of ${rows.length}`;
    viewer.querySelector(".caption").textContent = text(".caption");
    viewer.querySelector(".predicted-caption").textContent = text(".predicted-caption") && `Predicted from the brain: ${text(".predicted-caption")}`;
    viewer.querySelector(".scores").replaceChildren(...all("tr.scores:not([hidden]) .score", row).map(found => found.cloneNode(true)));
    viewer.querySelector(".shown").replaceChildren(...all("td:has(img)", row).map(cell => {
      const figure = document.createElement("figure"), words = document.createElement("figcaption");
      const image = cell.querySelector("img").cloneNode();
      image.removeAttribute("id");
      const more = [".mark-words", ".small"].map(part => cell.querySelector(part)?.textContent).filter(Boolean);
      words.textContent = [cell.dataset.label, ...more].join(" · ");
      figure.className = cell.className;
      figure.append(image, words);
      return figure;
    }));
  }
  function step(by) {
    const rows = tableOf(current).rows(), next = rows[rows.indexOf(current) + by];
    if (next) fill(next);
  }
  if (viewer) {
    viewer.addEventListener("click", event => {
      if (event.target === viewer || event.target.closest("[data-close]")) viewer.close();
      const button = event.target.closest("[data-step]");
      if (button) step(Number(button.dataset.step));
    });
    viewer.addEventListener("keydown", event => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) { event.preventDefault(); step(by); }
    });
    viewer.addEventListener("close", () => {
      tableOf(current).reveal(current);
      const buttons = all("button.image", current);
      (buttons[column] ?? buttons[0]).focus();
    });
  }
})();
