// What the pages do beside the theme's own script: menus, scrolling parts that a keyboard
// reaches, and folds that open where they are needed. Without it the pages are whole.
(() => {
  "use strict";
  const all = (selector) => [...document.querySelectorAll(selector)];

  function load(image) {
    image.loading = "eager";
    return image.decode();
  }

  // Buttons of the header: the site's policy allows no script in an attribute.
  const deeds = {
    print: async () => {
      const figures = Promise.allSettled(all("img").map(load)); // those far down
      await Promise.race([figures, new Promise((late) => setTimeout(late, 5000))]);
      window.print();
    },
    toggleFullScreen: () =>
      document.fullscreenElement
        ? document.exitFullscreen()
        : document.documentElement.requestFullscreen(),
  };
  for (const button of all("[data-does]")) {
    button.addEventListener("click", deeds[button.dataset.does]);
  }

  // Nor does it allow the link that takes the marks of a search away.
  document.addEventListener("click", (event) => {
    if (!event.target.closest('a[href^="javascript:SphinxHighlight"]')) return;
    event.preventDefault();
    SphinxHighlight.hideSearchWords();
  });

  if (document.querySelector("#search-results")) {
    document.querySelector("main form.bd-search input")?.focus();
  }

  // Menus: a click or Enter opens, Escape and a click elsewhere close.
  function show(menu, open) {
    menu.querySelector(".dropdown-menu").classList.toggle("show", open);
    menu.querySelector(".dropdown-toggle").setAttribute("aria-expanded", open);
  }
  const menus = all("div.dropdown").filter((menu) => menu.querySelector(".dropdown-menu"));
  document.addEventListener("click", (event) => {
    for (const menu of menus) {
      const pressed = menu.querySelector(".dropdown-toggle").contains(event.target);
      const open = menu.querySelector(".dropdown-menu").classList.contains("show");
      show(menu, pressed && !open);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of menus) {
      if (menu.contains(document.activeElement)) {
        menu.querySelector(".dropdown-toggle").focus();
      }
      show(menu, false);
    }
  });

  // Wide formulas, tables, code and outputs scroll inside themselves: then, and only then,
  // they can be reached with Tab and have a name. Looked at when they come near the window:
  // to measure all of a chapter at once would hold a phone up for a second.
  const NAMES = [
    [".math", "Formula, scrolls sideways"],
    [".pst-scrollable-table-container", "Table, scrolls sideways"],
    [".cell_output", "Output, scrolls sideways"],
    ["pre", "Code, scrolls sideways"],
  ];
  const named = new Map();
  for (const [selector, name] of NAMES) {
    for (const part of all(`.bd-article ${selector}`)) named.set(part, name);
  }
  const sight = new ResizeObserver((entries) => {
    const found = entries.map(({ target }) => ({
      part: target,
      scrolls: target.scrollWidth > target.clientWidth && target.clientWidth > 0,
    })); // measured first, changed then
    for (const { part, scrolls } of found) {
      if (scrolls) {
        part.tabIndex = 0;
        part.setAttribute("role", "group");
        part.setAttribute("aria-label", named.get(part));
      } else if (part.getAttribute("aria-label") === named.get(part)) {
        part.removeAttribute("tabindex");
        part.removeAttribute("role");
        part.removeAttribute("aria-label");
      }
    }
  });
  const near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) sight.observe(target);
      }
    },
    { rootMargin: "100%" },
  );
  for (const part of named.keys()) near.observe(part);

  // A link to a folded part opens it; paper shows all parts, on white.
  function open() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const fold = target?.closest("details");
    if (fold && !fold.open) {
      fold.open = true;
      target.scrollIntoView();
    }
  }
  window.addEventListener("hashchange", open);
  open();
  let closed = [];
  let theme;
  window.addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    for (const fold of closed) fold.open = true;
    theme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    for (const image of all("img[loading=lazy]")) load(image).catch(() => {});
  });
  window.addEventListener("afterprint", () => {
    for (const fold of closed) fold.open = false;
    document.documentElement.dataset.theme = theme;
  });
})();
