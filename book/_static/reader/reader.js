/* Runs the book's own Python reader (attnbook.draw.page) for the calculator page, which
   holds this page in a frame: a question {id, text, name} has an answer {id, found}. */
(() => {
  "use strict";
  const SOURCE = `
from browser import window
from attnbook.draw.page import answer

window.attnbookAnswer = answer
`;
  if (parent === globalThis) return; // opened by itself: nobody asks
  const tell = (words) => parent.postMessage(words, "*"); // a file's page has no origin
  __BRYTHON__.runPythonSource(SOURCE, "reader");
  addEventListener("message", ({ source, data }) => {
    if (source !== parent) return;
    let found = null; // what is no ValueError is a fault of this page, not of the file
    try { found = `${globalThis.attnbookAnswer(data.text, data.name)}`; } catch { /* null */ }
    tell({ id: data.id, found });
  });
  tell({ ready: typeof globalThis.attnbookAnswer === "function" });
})();
