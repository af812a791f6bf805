// Keeps the page up to date, and shows how old it is if the daemon does not answer any more.
"use strict";

const main = document.querySelector("main");
const age = document.querySelector("#age");
// The daemon sends its state every second.
const SILENCE = 5000;
let answered = Date.now();
let live = false;

// Changes only what is different: a selected text stays selected, and a screen reader reads what is new.
function update(shown, next) {
  if (shown.isEqualNode(next)) return;
  const alike = shown.nodeName === next.nodeName
    && shown.children.length > 0
    && shown.children.length === next.children.length
    && ownText(shown) === ownText(next);
  if (!alike) {
    shown.replaceWith(next);
    return;
  }
  for (const { name, value } of next.attributes) shown.setAttribute(name, value);
  const children = [...next.children];
  [...shown.children].forEach((child, index) => update(child, children[index]));
}

function ownText(element) {
  return [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data.trim()).join();
}

function say() {
  const silence = Date.now() - answered;
  const old = silence > SILENCE;
  let text = "connecting";
  if (old) text = `No answer since ${new Date(answered).toLocaleTimeString()}: the values shown are from then`;
  else if (live) text = "live";
  if (age.textContent !== text) age.textContent = text;
  document.body.classList.toggle("old", old);
}

function open() {
  const stream = new EventSource("live");
  stream.onmessage = ({ data }) => {
    const next = new DOMParser().parseFromString(data, "text/html").querySelector("main");
    document.title = next.dataset.title;
    update(main, next);
    answered = Date.now();
    live = true;
    say();
  };
  stream.onerror = () => {
    // After an error of a proxy, EventSource does not reconnect by itself; after an end by the daemon, it does.
    if (stream.readyState === EventSource.CLOSED) setTimeout(open, 3000);
  };
}

setInterval(say, 1000);
say();
open();
