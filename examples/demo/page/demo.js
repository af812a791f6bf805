// The page: three desktops, buttons, and the result of each notification.
'use strict';

const USERS = ['alice', 'bob', 'carol'];

/** What the programs of the strip say when they run, and when not. */
const STATES = {
  daemon: ['running', 'killed'],
  postgres: ['running', 'stopped'],
  network: ['connected', 'cut'],
};

/** Each notification of a user by `user/id`, once it was written or shown, whichever is reported first. */
const notifications = new Map();

/** Each user's frame, what the browser has acknowledged, and what waits for the real desktop. */
const desktops = new Map();

/** Milliseconds from commit to popup, in the order of the popups. */
const latencies = [];

/** Milliseconds between two popups of a user on the real desktop. */
const POPUP_PAUSE = 1000;

/** How many popups the real desktop has shown. */
let onDesktop = 0;

const element = (id) => document.getElementById(id);

function notification(user, id) {
  const key = `${user}/${id}`;
  if (!notifications.has(key)) {
    notifications.set(key, { user, id, at: null, shownAt: null, shown: 0, acknowledged: false });
  }
  return notifications.get(key);
}

for (const user of USERS) {
  const section = document.createElement('section');
  const heading = section.appendChild(document.createElement('h2'));
  heading.textContent = user;
  const frame = section.appendChild(document.createElement('iframe'));
  frame.title = `${user}’s desktop`;
  // Each host has separate cookies.
  frame.src = `//${user}.${location.host}/icingaweb2/`;
  element('desktops').append(section);
  desktops.set(user, { heading, frame, origin: new URL(frame.src).origin, position: null, popups: [], pause: null });
}

/** A desktop has shown a notification. */
window.addEventListener('message', (message) => {
  for (const [user, desktop] of desktops) {
    if (message.origin === desktop.origin) {
      shown(user, message.data);
    }
  }
});

function shown(user, { id, title, body, at }) {
  const seen = notification(user, id);
  seen.shown += 1;
  seen.shownAt ??= at;
  measure(seen);
  desktops.get(user).popups.push({ title, body });
  popUp(user);
  renderSoon();
}

/** Shows what a user was shown on the real desktop as well: at once, but for a storm, which no desktop takes one by one. */
function popUp(user) {
  const desktop = desktops.get(user);
  if (desktop.pause || desktop.popups.length === 0) {
    return;
  }
  const { title, body } = desktop.popups.at(-1);
  const more = desktop.popups.length - 1;
  desktop.popups = [];
  if (window.Notification?.permission !== 'granted') {
    return;
  }
  const popup = new Notification(`${user}: ${title}`, { body: more > 0 ? `${body}\nand ${more} more` : body });
  popup.onshow = () => {
    onDesktop += 1;
    document.body.dataset.onDesktop = onDesktop;
  };
  desktop.pause = setTimeout(() => {
    desktop.pause = null;
    popUp(user);
  }, POPUP_PAUSE);
}

function measure(seen) {
  if (seen.at !== null && seen.shownAt !== null && seen.latency === undefined) {
    seen.latency = Math.max(0, seen.shownAt - seen.at);
    latencies.push(seen.latency);
    report(seen);
  }
}

/** Has the desktop show what became of a notification. */
function report(seen) {
  const { frame, origin } = desktops.get(seen.user);
  const words = [];
  if (seen.latency !== undefined) {
    words.push(milliseconds(seen.latency));
  }
  if (seen.acknowledged) {
    words.push('acknowledged');
  }
  frame.contentWindow.postMessage({ id: seen.id, words: words.join(', ') }, origin);
}

const news = new EventSource('/news');

news.addEventListener('written', (event) => {
  const { id, user, at } = JSON.parse(event.data);
  const seen = notification(user, id);
  seen.at = at;
  measure(seen);
  renderSoon();
});

news.addEventListener('facts', (event) => {
  const facts = JSON.parse(event.data);
  for (const [name, [up, down]] of Object.entries(STATES)) {
    const { up: works, troubles } = facts[name];
    const before = troubles > 0 ? `, ${troubles}\u00d7 ${down}` : '';
    element(name).textContent = works ? up + before : down;
    element(name).dataset.up = works;
    element(name).dataset.troubles = troubles;
    // Not disabled, because that would lose the keyboard focus.
    document.querySelector(`[data-needs=${name}]`).setAttribute('aria-disabled', !works);
  }
  for (const [user, { username, floor, above }] of Object.entries(facts.users)) {
    const desktop = desktops.get(user);
    desktop.heading.textContent = username === user ? user : `${user}, now ${username}`;
    desktop.position = { floor, above: new Set(above) };
  }
  element('mute').textContent = facts.muted ? 'Unmute db1' : 'Mute db1';
  element('rename').textContent = facts.users.bob?.username === 'bob' ? 'Rename bob to robert' : 'Rename robert to bob';
  document.body.dataset.ready = 'true';
  renderSoon();
});

for (const button of document.querySelectorAll('[data-click]')) {
  button.addEventListener('click', async () => {
    if (button.ariaDisabled === 'true') {
      return;
    }
    const what = button.firstChild.textContent;
    try {
      const answer = await fetch(`/click/${button.dataset.click}`, { method: 'POST', headers: { 'X-Demo': 'click' } });
      element('said').textContent = answer.ok ? what : `${what}: ${answer.status}`;
    } catch {
      element('said').textContent = 'The demo has ended: start packaging/demo.sh again, and reload this page.';
    }
  });
}

if (window.Notification?.permission === 'default') {
  element('allow').addEventListener('click', async () => {
    await Notification.requestPermission();
    element('allow').hidden = Notification.permission !== 'default';
  });
} else {
  element('allow').hidden = true;
}

let due = null;

/** A storm is not shown one by one. */
function renderSoon() {
  due ??= setTimeout(render, 50);
}

function render() {
  due = null;
  const count = { written: 0, shown: 0, acknowledged: 0, waiting: 0, folded: 0, twice: 0 };
  for (const seen of notifications.values()) {
    const position = desktops.get(seen.user).position;
    if (!seen.acknowledged && position && (seen.id <= position.floor || position.above.has(seen.id))) {
      seen.acknowledged = true;
      report(seen);
    }
    count.written += seen.at !== null;
    count.shown += seen.shown > 0;
    count.acknowledged += seen.acknowledged;
    count.waiting += !seen.acknowledged && seen.shown === 0;
    count.folded += seen.acknowledged && seen.shown === 0;
    count.twice += seen.shown > 1;
  }
  for (const [id, number] of Object.entries(count)) {
    element(id).textContent = number;
  }
  element('twice').dataset.up = count.twice === 0;
  if (latencies.length > 0) {
    element('latency').textContent = milliseconds(latencies.at(-1));
    const sorted = latencies.toSorted((a, b) => a - b);
    element('median').textContent = milliseconds(sorted[Math.floor(sorted.length / 2)]);
  }
}

function milliseconds(time) {
  return time < 10_000 ? `${Math.round(time)} ms` : `${(time / 1000).toFixed(1)} s`;
}
