/* The gallery of book/gallery.md: filters, sorts and compares its cards. All numbers were
   computed by attnbook.models and stand in the page and in gallery_data.js; this script
   only asks which are equal, which is larger, and how long a bar is. It fetches nothing. */
(() => {
  "use strict";
  const $ = (name) => document.getElementById(`gc-${name}`);
  const SVG = "http://www.w3.org/2000/svg";
  const FILTERS = ["name", "mixer", "year", "developer", "size", "sort"];
  const grid = $("grid"), cards = [...grid.children], { models } = gallery;
  let spoken;

  /** A new element with attributes and text or children. */
  function make(tag, attributes = {}, ...children) {
    const node = ["svg", "path", "rect"].includes(tag)
      ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  // --- which cards, in which order ------------------------------------------------------

  const about = new Map(cards.map((card, place) => {
    const { date, developer, mixers, size, cache, all } = card.dataset;
    const number = (x) => (x === undefined ? null : Number(x));
    return [card, {
      place, developer, date: date ?? null, year: date?.slice(0, 4) ?? "unknown",
      mixers: mixers.split("|"), name: models[card.id].name.toLowerCase(),
      size: number(size), cache: number(cache), all: number(all),
    }];
  }));

  function inSize(size, wish) {
    if (!wish || wish === "unknown" || size === null) return !wish || (wish === "unknown") === (size === null);
    const [low, high] = wish.split("-").map((x) => (x ? Number(x) * 1e9 : Infinity));
    return size > low && size <= high;
  }

  const fits = (one, wish) =>
    one.name.includes(wish.name.trim().toLowerCase()) &&
    (!wish.mixer || one.mixers.includes(wish.mixer)) &&
    (!wish.year || one.year === wish.year) &&
    (!wish.developer || one.developer === wish.developer) &&
    inSize(one.size, wish.size);

  /** Less than zero if a comes first; what is not known comes last, whatever the order. */
  function before(a, b, sort) {
    const down = sort === "" || sort.startsWith("-") ? -1 : 1;
    const key = { "": "date", oldest: "date" }[sort] ?? sort.replace("-", "");
    const [x, y] = [a[key], b[key]];
    if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
    return (x < y ? -down : x > y ? down : 0) || a.place - b.place;
  }

  const wished = () => Object.fromEntries(FILTERS.map((name) => [name, $(name).value]));

  function show() {
    const wish = wished();
    const order = [...cards].sort((a, b) => before(about.get(a), about.get(b), wish.sort));
    if (order.some((card, i) => grid.children[i] !== card)) grid.append(...order);
    let count = 0;
    for (const card of cards) {
      card.hidden = !fits(about.get(card), wish);
      count += !card.hidden;
    }
    const words = count === cards.length ? `All ${count} cards` : `${count} of ${cards.length} cards`;
    $("link").setAttribute("href", address());
    say(count ? words : "No card fits: show all, or choose less.");
  }

  /** To the eye at once; to a screen reader too, since the line is a live region. */
  function say(words) {
    clearTimeout(spoken);
    spoken = setTimeout(() => { $("status").textContent = words; }, 150);
  }

  // --- the address ----------------------------------------------------------------------

  function address() {
    const wish = Object.entries(wished()).filter(([, value]) => value);
    const chosen = [$("a").value, $("b").value];
    if (chosen.every(Boolean)) wish.push(["compare", chosen.join(",")]);
    return wish.length ? `#${new URLSearchParams(wish)}` : "#the-gallery";
  }

  function keep() {
    try { history.replaceState(null, "", address()); } catch { /* the links still work */ }
  }

  /** Set controls, or open a card, as the address says. */
  function restore() {
    const hash = location.hash.slice(1);
    if (Object.hasOwn(models, hash)) return open(document.getElementById(hash));
    if (hash && !hash.includes("=")) return show(); // a heading of this page
    const wish = new URLSearchParams(location.hash.slice(1));
    for (const name of FILTERS) {
      const field = $(name);
      field.value = wish.get(name) ?? "";
      if (field.selectedIndex === -1) field.value = "";
    }
    const pair = (wish.get("compare") ?? "").split(",");
    const known = pair.length === 2 && pair.every((id) => Object.hasOwn(models, id));
    ["a", "b"].forEach((name, i) => { $(name).value = known ? pair[i] : ""; });
    show();
    compare();
  }

  function open(card) {
    show();
    card.hidden = false;
    card.querySelector("details").open = true;
    card.scrollIntoView();
  }

  // --- two models -----------------------------------------------------------------------

  /** What differs: field to the words of both, as attnbook.models.compare lists it. */
  function differences(a, b) {
    const found = [];
    const note = (field, label, x, y) => {
      if (x !== y) found.push({ field, label, words: [gallery.said[x], gallery.said[y]] });
    };
    const word = (field) => gallery.labels[field] ?? field;
    gallery.outer.forEach((f, i) => note(f, word(f), a.around[i], b.around[i]));
    const both = Object.keys(a.sizes).filter((kind) => Object.hasOwn(b.sizes, kind));
    for (const kind of both) {
      gallery.inner.forEach((f, i) =>
        note(`${kind}: ${f}`, `${kind}: ${word(f)}`, a.sizes[kind][i], b.sizes[kind][i]));
    }
    if (!both.length) {
      gallery.every.forEach((f, i) =>
        note(`all layers: ${f}`, `all layers: ${word(f)}`, a.every[i], b.every[i]));
    }
    return found;
  }

  const strip = (id) => document.getElementById(id).querySelector(".gc-strip");
  const ROW = 20.5, DEEP = 18.5; // a row of a strip: its step and its height

  /** One row of a model's strip, or nothing where it has fewer layers. */
  function stripRow(id, row) {
    const whole = strip(id), high = whole.viewBox.baseVal.height;
    if (row * ROW + DEEP > high + 3) return null;
    const part = whole.cloneNode(true);
    part.setAttribute("viewBox", `0 ${row * ROW} 380 ${DEEP}`);
    part.removeAttribute("role");
    part.removeAttribute("aria-label");
    part.setAttribute("aria-hidden", "true");
    return part;
  }

  function strips(ids) {
    const found = [];
    const rows = Math.max(...ids.map((id) => Math.round(strip(id).viewBox.baseVal.height / ROW)));
    for (let row = 0; row < rows; row++) {
      const both = ids.map((id, i) => [stripRow(id, row), "AB"[i]]).filter(([part]) => part);
      found.push(make("div", {}, ...both.map(([part, letter]) =>
        make("div", { class: "gc-line" }, make("b", {}, letter), part))));
    }
    const spoken = ids.map((id, i) => `${"AB"[i]}: ${strip(id).getAttribute("aria-label")}`);
    $("strips").setAttribute("role", "img");
    $("strips").setAttribute("aria-label", spoken.join(". "));
    $("strips").replaceChildren(...found);
  }

  const row = (head, cells, data) =>
    make("tr", data, make("th", { scope: "row" }, ...head), ...cells.map((c) => make("td", {}, c)));
  const bytes = ([value, words]) => (value === null ? words : make("data", { value }, words));

  function kinds(a, b, ids) {
    const counts = [a, b].map((one) => new Map(one.kinds));
    const all = new Set([...counts[0].keys(), ...counts[1].keys()]);
    return [...all].map((kind) => {
      const from = ids.map((id) => document.getElementById(id)
        .querySelector(`[data-kind="${kind}"] svg`)).find(Boolean);
      const head = [...(from ? [from.cloneNode(true)] : []), ` ${kind}`];
      return row(head, counts.map((one) => String(one.get(kind) ?? 0)), { "data-kind": kind });
    });
  }

  const commas = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
  const ends = (a, b) => [...new Set([...a.ends, ...b.ends])].sort((x, y) => x - y);
  const MORE = "more than it takes";

  function ledger(a, b) {
    const lines = gallery.bills.map(([name, label], i) =>
      row([label], [bytes(a.ledger[i]), bytes(b.ledger[i])], { "data-name": name }));
    const totals = ends(a, b).map((n) => {
      const held = [a, b].map((one) => (one.held[n] ? bytes(one.held[n]) : MORE));
      return row([`In all, ${commas(n)} tokens`], held, { "data-context": n });
    });
    return [...lines, ...totals];
  }

  /** The caches of both, at each length, as bars on one scale. */
  function bars(a, b) {
    const at = ends(a, b);
    const most = Math.max(0, ...[a, b].flatMap((one) => at.map((n) => one.held[n]?.[0] ?? 0)));
    return at.map((n) => make("div", {}, make("p", {}, `${commas(n)} tokens`),
      ...[a, b].map((one, i) => {
        const [whole, words, parts] = one.held[n] ?? [null, MORE, []];
        const line = make("div", { class: "gc-line" }, make("b", {}, "AB"[i]));
        if (whole !== null) line.append(bar(parts, most));
        line.append(make("span", {}, parts.length > 1
          ? `${words} (${parts.map(([name, , said]) => `${name} ${said}`).join(", ")})` : words));
        return line;
      })));
  }

  function bar(parts, most) {
    const drawn = make("svg", { class: "gc-bar", viewBox: "0 0 380 12", "aria-hidden": "true" });
    let x = 0;
    for (const [name, amount] of parts) {
      const width = (379 * amount) / most;
      const [fill, stroke] = gallery.paints[name];
      drawn.append(make("rect", { fill, stroke, x, y: 1, height: 10, width: Math.max(width, 1) }));
      x += width;
    }
    return drawn;
  }

  /** A sentence on the order of the layers of two models, if there is something to say. */
  function orderWords(ids) {
    const names = ids.filter((id) => !models[id].ordered).map((id) => models[id].name);
    const unknown = [...new Set(names)].join(" and of ");
    if (unknown) return `In what order the layers of ${unknown} stand is unknown. `;
    const alike = strip(ids[0]).innerHTML === strip(ids[1]).innerHTML;
    return alike ? "The layers are the same, in the same order. " : "";
  }

  /** Show the comparison of the two chosen models, or nothing. */
  function compare(jump = false) {
    const ids = [$("a").value, $("b").value];
    for (const button of grid.querySelectorAll(".gc-choose")) {
      button.setAttribute("aria-pressed", String(ids.includes(button.dataset.id)));
    }
    $("result").hidden = !ids.every(Boolean);
    if ($("result").hidden) return;
    const [a, b] = ids.map((id) => models[id]);
    const found = differences(a, b);
    $("title").textContent = `A: ${a.name}, B: ${b.name}`;
    $("same").textContent = `${orderWords(ids)}${found.length || "No"} size${found.length === 1 ? "" : "s"} differ${found.length === 1 ? "s" : ""}.`;
    strips(ids);
    for (const [name, rows] of Object.entries({
      kinds: kinds(a, b, ids), ledger: ledger(a, b),
      differences: found.map((one) => row([one.label], one.words, { "data-field": one.field })),
    })) {
      $(name).tBodies[0].replaceChildren(...rows);
    }
    $("scale").replaceChildren(...bars(a, b));
    $("pair-link").setAttribute("href", `#compare=${ids.join(",")}`);
    if (jump) {
      $("title").focus();
      $("result").scrollIntoView();
    } else {
      say(`${a.name} and ${b.name}: ${$("same").textContent}`);
    }
  }

  /** A model into the comparison: as A if that is free, else as B. */
  function choose(id) {
    const name = $("a").value && !$("b").value && $("a").value !== id ? "b" : "a";
    if (name === "a") $("b").value = "";
    $(name).value = id;
    keep();
    compare(true);
    $("link").setAttribute("href", address());
    if (name === "a") say(`${models[id].name} is model A. Choose another.`);
  }

  // --- start ----------------------------------------------------------------------------

  function fill(name, values) {
    $(name).append(...[...new Set(values)].map((value) => new Option(value, value)));
  }

  function start() {
    const every = [...about.values()];
    const sorted = (list) => [...new Set(list)].sort((x, y) => x.localeCompare(y, "en"));
    const mixers = [...document.querySelectorAll("#gc-mixers li")].map((li) => li.dataset.mixer);
    fill("mixer", mixers.filter((mixer) => mixer !== "none"));
    fill("year", sorted(every.map((one) => one.year)).reverse());
    fill("developer", sorted(every.map((one) => one.developer)));
    const names = Object.entries(models).sort(([, x], [, y]) => x.name.localeCompare(y.name, "en"));
    for (const name of ["a", "b"]) {
      $(name).append(...names.map(([id, model]) => new Option(model.name, id)));
    }
    for (const card of cards) {
      const button = make("button", { type: "button", class: "gc-choose", "data-id": card.id, "aria-pressed": "false" },
        "Compare", make("span", { class: "unseen" }, ` ${models[card.id].name}`));
      button.addEventListener("click", () => choose(card.id));
      card.querySelector("details").before(button);
    }
    $("form").addEventListener("submit", (event) => event.preventDefault());
    $("form").addEventListener("input", (event) => {
      const pair = ["gc-a", "gc-b"].includes(event.target.id);
      keep();
      show();
      if (pair) compare();
    });
    $("reset").addEventListener("click", () => {
      for (const name of FILTERS) $(name).value = "";
      keep();
      show();
    });
    $("close").addEventListener("click", () => {
      for (const name of ["a", "b"]) $(name).value = "";
      keep();
      compare();
      show(); // so that the line below no longer speaks of two models
      $("a").focus();
    });
    grid.addEventListener("click", (event) => { // the same address again
      const link = event.target.closest("a[href^='#']");
      if (link && link.hash === location.hash) open(link.closest("article"));
    });
    addEventListener("hashchange", restore);
    for (const name of ["controls", "pair"]) $(name).disabled = false;
    restore();
  }

  start();
})();
