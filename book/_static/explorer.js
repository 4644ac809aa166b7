/* The attention explorer of book/explorer.md: runs the small model of explorer_data.js, which
   tools/explorer.py has trained, and shows what one head does. It fetches and stores nothing.
   Plain DOM and no library: a model of thirty thousand weights, one table and five bars need
   none, and each kilobyte saved reaches a phone sooner. tests/test_explorer.py sets the
   arithmetic beside attnbook's. */
(() => {
  "use strict";
  const { settings, alphabet, shapes, ramp, longest, first, variants } = explorer;
  const { C, H, layers: L } = settings, D = C / H, V = alphabet.length;
  const SLIDERS = { window: ["W"], sinks: ["W", "kept"], "top-k": ["k"] };

  // --- the model, as attnbook.toy.TinyLM; a matrix is a list of Float64Array rows -------

  const weights = unpack(explorer.weights);

  /** 16-bit floats from base64, cut into the tensors that `shapes` lists. */
  function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const half = (i) => {
      const bits = bytes[2 * i] | (bytes[2 * i + 1] << 8);
      const power = (bits >> 10) & 31, rest = bits & 1023;
      const size = power ? (1 + rest / 1024) * 2 ** (power - 15) : rest * 2 ** -24;
      return bits & 0x8000 ? -size : size;
    };
    const found = {};
    let start = 0;
    for (const [name, shape] of Object.entries(shapes)) {
      const size = shape.reduce((a, b) => a * b, 1);
      found[name] = Float64Array.from({ length: size }, (_, i) => half(start + i));
      start += size;
    }
    return found;
  }

  /** x W^T + b, a row at a time; name, a layer nn.Linear. */
  function linear(rows, name) {
    const W = weights[`${name}.weight`], b = weights[`${name}.bias`];
    const [out, wide] = shapes[`${name}.weight`];
    return rows.map((x) => Float64Array.from({ length: out }, (_, o) => {
      let sum = b ? b[o] : 0;
      for (let i = 0; i < wide; i += 1) sum += W[o * wide + i] * x[i];
      return sum;
    }));
  }

  function norm(rows, name) {
    const g = weights[`${name}.weight`], b = weights[`${name}.bias`];
    return rows.map((x) => {
      const mean = x.reduce((a, y) => a + y, 0) / C;
      const spread = Math.sqrt(x.reduce((a, y) => a + (y - mean) ** 2, 0) / C + 1e-5);
      return x.map((y, i) => g[i] * ((y - mean) / spread) + b[i]);
    });
  }

  const add = (a, b) => a.map((x, t) => x.map((y, i) => y + b[t][i]));

  /** The error function: a series without cancellation, to the last digits of a double. */
  function erf(x) {
    if (Math.abs(x) > 6) return Math.sign(x);
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n += 1) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }

  const gelu = (x) => 0.5 * x * (1 + erf(x / Math.SQRT2));

  function softmax(row) {
    const top = Math.max(...row);
    const e = row.map((x) => Math.exp(x - top)); // exp(-Infinity) is 0
    const sum = e.reduce((a, y) => a + y, 0);
    return e.map((x) => x / sum);
  }

  /** RoPE: turn the pairs (x[i], x[i + D / 2]) of a head by position x frequency. */
  function turn(x, t) {
    const out = Float64Array.from(x), half = D / 2;
    for (let i = 0; i < half; i += 1) {
      const angle = t * 10000 ** ((-2 * i) / D);
      const cos = Math.cos(angle), sin = Math.sin(angle);
      out[i] = x[i] * cos - x[i + half] * sin;
      out[i + half] = x[i + half] * cos + x[i] * sin;
    }
    return out;
  }

  /** Which of its scores a query t may use: a list of true and false. */
  function open(row, t, { variant, W, kept, k }) {
    const before = row.map((_, s) => s <= t);
    if (variant === "none") return row.map(() => true);
    if (variant === "window") return row.map((_, s) => s <= t && t - s < W);
    if (variant === "sinks") return row.map((_, s) => s <= t && (t - s < W || s < kept));
    if (variant !== "top-k") return before;
    const order = row.map((_, s) => s).filter((s) => s <= t); // of equals, the nearest wins
    const best = new Set(order.sort((a, b) => row[b] - row[a] || b - a).slice(0, k));
    return row.map((_, s) => best.has(s));
  }

  function head(q, k, v, wish) {
    const dot = (a, b) => a.reduce((sum, y, i) => sum + y * b[i], 0) / Math.sqrt(D);
    const scores = q.map((a) => k.map((b) => dot(a, b)));
    const mask = scores.map((row, t) => open(row, t, wish));
    const A = scores.map((row, t) => softmax(row.map((x, s) => (mask[t][s] ? x : -Infinity))));
    const output = A.map((row) => Array.from({ length: D }, (_, d) =>
      row.reduce((sum, w, s) => sum + w * v[s][d], 0)));
    return { scores, mask, weights: A, output };
  }

  /** All of a text: what each head does, and the chances of the next character. */
  function run(text, wish) {
    const E = weights["embed.weight"];
    let x = [...text].map((c) => alphabet.indexOf(c)).map((i) => E.slice(i * C, (i + 1) * C));
    const layers = [];
    for (let l = 0; l < L; l += 1) {
      const at = `blocks.${l}`, y = norm(x, `${at}.norm1`);
      const [q, k, v] = ["q", "k", "v"].map((name) => linear(y, `${at}.mixer.${name}`));
      const heads = Array.from({ length: H }, (_, h) => {
        const own = (rows) => rows.map((row) => row.slice(h * D, (h + 1) * D));
        return head(own(q).map(turn), own(k).map(turn), own(v), wish);
      });
      const joined = x.map((_, t) => Float64Array.from(heads.flatMap((one) => one.output[t])));
      x = add(x, linear(joined, `${at}.mixer.out`));
      const wide = linear(norm(x, `${at}.norm2`), `${at}.mlp.0`).map((row) => row.map(gelu));
      x = add(x, linear(wide, `${at}.mlp.2`));
      layers.push(heads);
    }
    return { layers, chances: linear(norm(x, "norm"), "head").map((row) => [...softmax([...row])]) };
  }

  /** Mean surprise at the second character and those after it, in nats. */
  const surprise = (text, chances) => [...text].slice(1).reduce(
    (sum, c, t) => sum - Math.log(chances[t][alphabet.indexOf(c)]), 0) / (text.length - 1);

  explorer.run = run; // for the test

  // --- the page -------------------------------------------------------------------------

  const $ = (name) => document.getElementById(`ex-${name}`);
  const chosen = (name) => document.querySelector(`input[name="ex-${name}"]:checked`).value;
  const NAMES = { " ": "space", "\n": "line break", ",": "comma", ".": "full stop",
    ":": "colon", ";": "semicolon", "!": "exclamation mark", "?": "question mark",
    "'": "apostrophe", "-": "hyphen", "&": "and sign", $: "dollar" };
  const sign = (c) => ({ " ": "␣", "\n": "↵" }[c] ?? c);
  const called = (c) => NAMES[c] ?? (c === c.toLowerCase() ? c : `capital ${c}`);
  const both = (c) => (NAMES[c] ? `${sign(c)} (${NAMES[c]})` : c);
  const short = (x, digits) => x.toFixed(digits).replace(/^-(?=.*[1-9])/, "−").replace("-", "");
  const percent = (p) => `${short(100 * p, p < 0.0995 ? 1 : 0)} %`;
  let now = null, spoken, at = [Infinity, Infinity]; // the cell that the keyboard is on

  /** A new element with attributes and text or children. */
  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  /** A colour of cividis for 0 to 1, and black or white to write on it. */
  function colour(x) {
    const place = Math.min(Math.max(x, 0), 1) * (ramp.length - 1);
    const i = Math.min(Math.floor(place), ramp.length - 2);
    const rgb = ramp[i].map((a, c) => Math.round(a + (ramp[i + 1][c] - a) * (place - i)));
    const light = rgb.map((a) => a / 255)
      .map((a) => (a <= 0.04045 ? a / 12.92 : ((a + 0.055) / 1.055) ** 2.4));
    const seen = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2];
    return [`rgb(${rgb.join(", ")})`, seen > 0.179 ? "black" : "white"];
  }

  /** The text, or null, with the field marked as wrong. What a phone bends is straightened. */
  function written() {
    const field = $("text"), wrong = $("text-wrong");
    const text = field.value.replace(/[‘’]/g, "'").replace(/[–—]/g, "-");
    const strange = [...new Set([...text])].filter((c) => !alphabet.includes(c));
    let words = "";
    if (strange.length) {
      words = `The model has never seen ${strange.join(" ")}: it knows the letters A to Z and a to z, `
        + "the space, the digit 3 and ! $ & ' , - . : ; ?";
    } else if (!text) words = "Type at least one character.";
    else if (text.length > longest) words = `Type at most ${longest} characters.`;
    if (words && now) words += ` Below still stands “${now.text}”.`;
    wrong.textContent = words;
    wrong.hidden = !words;
    if (words) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
    document.getElementById("ex").classList.toggle("ex-stale", words !== "");
    return words ? null : text;
  }

  /** Read the controls, compute, and show. */
  function show() {
    const variant = $("variant").value, wish = { variant };
    for (const name of ["W", "kept", "k"]) {
      wish[name] = Number($(name).value);
      $(`${name}-field`).hidden = !(SLIDERS[variant] ?? []).includes(name);
      $(`${name}-said`).textContent = wish[name];
    }
    const right = written(), text = right ?? now?.text; // a wrong text leaves the last one
    if (text === undefined) return say($("text-wrong").textContent);
    now = { text, wish, ...run(text, wish), causal: run(text, { variant: "causal" }).chances };
    table();
    choose(...at);
    predict();
    $("link").href = link();
    if (right === null) return say($("text-wrong").textContent);
    const name = variants[variant].split(":")[0];
    const sizes = (SLIDERS[variant] ?? []).map((one) => `${one} = ${wish[one]}`);
    say(`${[name, ...sizes].join(", ")}; layer ${chosen("layer")}, head ${chosen("head")}; `
      + $("after").textContent + " "
      + [...$("bars").children].slice(0, 3).map((row) => row.dataset.said).join(", "));
  }

  function say(sentence) {
    clearTimeout(spoken);
    spoken = setTimeout(() => { $("status").textContent = sentence; }, 600);
  }

  const picked = () => now.layers[Number(chosen("layer")) - 1][Number(chosen("head")) - 1];

  /** The matrix of the chosen view: a row for each query, a column for each key. */
  function table() {
    const view = chosen("view"), one = picked(), text = [...now.text];
    const matrix = one[view], wide = view === "output" ? D : text.length;
    const all = matrix.flat().map(Number);
    const limits = view === "scores" || view === "output"
      ? [Math.min(...all), Math.max(...all)] : [0, 1];
    const grid = make("table", { class: `ex-grid ex-${view}`, id: "ex-grid", role: "grid",
      "aria-readonly": "true", "aria-labelledby": "ex-caption" });
    const title = { scores: "Scores before the mask", mask: "Mask", weights: "Weights",
      output: "Output of the head" }[view];
    const across = view === "output" ? "coordinates" : "keys";
    grid.append(make("caption", {}, make("span", { id: "ex-caption" },
      `${title}, layer ${chosen("layer")}, head ${chosen("head")}: queries down, ${across} across`)));
    const top = make("tr", {}, make("th", { scope: "col" },
      make("span", { class: "unseen" }, "query")));
    for (let s = 0; s < wide; s += 1) {
      const words = view === "output" ? `coordinate ${s + 1}` : `key ${s + 1}, ${called(text[s])}`;
      top.append(make("th", { scope: "col", "aria-label": words },
        view === "output" ? `${s + 1}` : sign(text[s])));
    }
    grid.append(make("thead", {}, top));
    const body = make("tbody");
    matrix.forEach((row, t) => {
      const line = make("tr", {}, make("th", { scope: "row",
        "aria-label": `query ${t + 1}, ${called(text[t])}` }, sign(text[t])));
      row.forEach((x, s) => line.append(cell(view, Number(x), t, s, one, limits)));
      body.append(line);
    });
    grid.append(body);
    const scroll = $("scroll"), left = scroll.scrollLeft;
    scroll.replaceChildren(grid);
    scroll.scrollLeft = at[1] === Infinity ? scroll.scrollWidth : left; // the last key is chosen
    legend(view, limits);
  }

  function cell(view, x, t, s, one, [low, high]) {
    const shut = view !== "output" && !one.mask[t][s];
    const digits = { weights: x >= 0.005 ? short(100 * x, 0) : "", mask: "" };
    const node = make("td", { tabindex: "-1", "aria-label": spell(view, x, shut) },
      shut ? "" : digits[view] ?? short(x, 1));
    node.value = x;
    if (shut) node.className = "ex-shut";
    else [node.style.backgroundColor, node.style.color] = colour((x - low) / (high - low || 1));
    return node;
  }

  /** A cell in words, which hold the number that is seen in it; `tell` has more digits. */
  function spell(view, x, shut) {
    if (view === "mask") return shut ? "blocked" : "open";
    if (view === "weights") return shut ? "blocked" : `${short(100 * x, x < 0.005 ? 1 : 0)} %`;
    return short(x, 1) + (shut ? ", blocked" : "");
  }

  function legend(view, [low, high]) {
    const stops = Array.from({ length: 9 }, (_, i) => colour(i / 8)[0]);
    $("ramp").style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    const ends = view === "weights" ? ["0 %", "100 %"] : [short(low, 1), short(high, 1)];
    [$("low").textContent, $("high").textContent] = ends;
    $("scale").hidden = view === "mask";
    $("shut").hidden = view === "output";
  }

  /** Move to a cell: it takes the focus that Tab gives, and its row is what is predicted. */
  function choose(t, s, focus = false) {
    const rows = [...$("grid").tBodies[0].rows], row = rows[Math.min(t, rows.length - 1)];
    const node = row.cells[1 + Math.min(s, row.cells.length - 2)];
    const before = $("grid").querySelector('[tabindex="0"]');
    before?.setAttribute("tabindex", "-1");
    $("grid").querySelector(".ex-row")?.classList.remove("ex-row");
    node.setAttribute("tabindex", "0");
    row.classList.add("ex-row");
    at = [t, s];
    if (focus) node.focus();
    tell(node);
  }

  const placeOf = (node) => [node.parentNode.sectionRowIndex, node.cellIndex - 1];

  /** One cell in a sentence, for hand and eye; a screen reader has the cell itself. */
  function tell(node) {
    const [t, s] = placeOf(node), one = picked();
    const query = `Query ${t + 1}, ${both(now.text[t])}`;
    if (chosen("view") === "output") {
      $("tell").textContent = `${query}: coordinate ${s + 1} of its output is ${short(node.value, 3)}.`;
      return;
    }
    const score = `score ${short(one.scores[t][s], 3)}`;
    const rest = one.mask[t][s] ? `weight ${percent(one.weights[t][s])}` : "blocked, weight 0";
    $("tell").textContent = `${query}, to key ${s + 1}, ${both(now.text[s])}: ${score}, ${rest}.`;
  }

  /** The five likeliest next characters after the chosen row's, beside the causal chances. */
  function predict() {
    const t = Math.min(at[0], now.text.length - 1), row = now.chances[t];
    const causal = now.wish.variant === "causal";
    const best = row.map((p, i) => [p, i]).sort((a, b) => b[0] - a[0]).slice(0, 5);
    const past = [...now.text.slice(Math.max(0, t - 11), t + 1)].map(sign).join("");
    $("after").textContent = `After “${t > 11 ? "…" : ""}${past}” the model expects:`;
    $("bars").replaceChildren(...best.map(([p, i]) => {
      const bar = make("span", { class: "ex-bar", "aria-hidden": "true" }, make("span"));
      bar.firstChild.style.width = `${100 * p}%`;
      if (!causal) {
        const mark = make("span", { class: "ex-was" });
        mark.style.left = `${100 * now.causal[t][i]}%`;
        bar.append(mark);
      }
      const words = make("span", { class: "ex-chance" }, percent(p));
      words.value = p;
      if (!causal) words.append(make("span", { class: "ex-aside" }, ` causal ${percent(now.causal[t][i])}`));
      const line = make("li", {}, make("span", { class: "ex-next", title: called(alphabet[i]) },
        both(alphabet[i])), bar, words);
      line.dataset.said = `${called(alphabet[i])} ${percent(p)}`;
      return line;
    }));
    const nats = (chances) => `${surprise(now.text, chances).toFixed(2)} nats`;
    $("surprise").textContent = now.text.length < 2 ? "" : "Mean surprise at a character of this text: "
      + nats(now.chances) + (causal ? "." : `; with the causal mask ${nats(now.causal)}.`);
  }

  function move(event) {
    const node = event.target.closest("td");
    if (!node || event.altKey || event.metaKey) return;
    let [t, s] = placeOf(node);
    const rows = $("grid").tBodies[0].rows.length, wide = node.parentNode.cells.length - 1;
    const far = event.ctrlKey;
    if (event.key === "ArrowUp") t -= 1;
    else if (event.key === "ArrowDown") t += 1;
    else if (event.key === "ArrowLeft") s -= 1;
    else if (event.key === "ArrowRight") s += 1;
    else if (event.key === "Home") [t, s] = [far ? 0 : t, 0];
    else if (event.key === "End") [t, s] = [far ? rows - 1 : t, wide - 1];
    else return;
    event.preventDefault();
    choose(Math.min(Math.max(t, 0), rows - 1), Math.min(Math.max(s, 0), wide - 1), true);
    predict();
  }

  function over(event) {
    const node = event.target.closest?.("td");
    if (node) tell(node);
  }

  function leave() {
    const node = $("grid").querySelector('[tabindex="0"]');
    if (node) tell(node);
  }

  // --- the address: #text=To+be&variant=window&W=4&layer=2&head=1&view=weights ----------

  const CHOICES = ["layer", "head", "view"];
  const start = Object.fromEntries(CHOICES.map((name) => [name, chosen(name)]));

  /** What is shown, as an address in this page. */
  function link() {
    const { variant } = now.wish, sizes = SLIDERS[variant] ?? [];
    const said = new URLSearchParams({ text: now.text, variant });
    for (const name of sizes) said.set(name, now.wish[name]);
    for (const name of CHOICES) said.set(name, chosen(name));
    return `#${said}`;
  }

  /** Set the controls as the address says; what it does not say, or wrongly, as at first. */
  function obey() {
    const said = new URLSearchParams(location.hash.slice(1));
    if (location.hash.length > 1 && !said.has("text")) return; // another place in this page
    const options = [...$("variant").options].map(({ value }) => value);
    const { variant } = Object.fromEntries(said);
    $("variant").value = options.includes(variant) ? variant : first.variant;
    for (const name of ["W", "kept", "k"]) {
      $(name).value = /^\d{1,3}$/.test(said.get(name)) ? said.get(name) : first[name];
    }
    for (const name of CHOICES) {
      const radios = [...document.getElementsByName(`ex-${name}`)];
      const wish = (value) => radios.find((radio) => radio.value === value);
      (wish(said.get(name)) ?? wish(start[name])).checked = true;
    }
    $("text").value = said.get("text") ?? explorer.text;
    show();
  }

  // --- start ----------------------------------------------------------------------------

  $("variant").replaceChildren(...Object.entries(variants).map(([value, words]) =>
    make("option", { value }, words)));
  $("controls").disabled = false;
  $("controls").addEventListener("input", show);
  $("views").disabled = false;
  $("views").addEventListener("input", show);
  $("form").addEventListener("submit", (event) => event.preventDefault());
  $("scroll").addEventListener("keydown", move);
  $("scroll").addEventListener("pointermove", over); // not where the table moves below it
  $("scroll").addEventListener("pointerleave", leave);
  $("scroll").addEventListener("click", (event) => {
    const node = event.target.closest("td");
    if (!node) return;
    choose(...placeOf(node), true);
    predict();
  });
  for (const name of ["controls", "views"]) {
    $(name).addEventListener("change", () => history.replaceState(null, "", link()));
  }
  addEventListener("hashchange", obey);
  $("variant").value = first.variant;
  $("text").value = explorer.text;
  show();
  if (location.hash) obey();
})();
