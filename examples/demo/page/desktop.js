// A user's desktop: a tab of Icinga Web, reduced to its module Icinga Notifications.
'use strict';

const cards = document.getElementById('cards');
const state = document.getElementById('state');
const signIn = document.getElementById('sign-in');

/** The page with all desktops, at the same host without the user. */
const page = location.origin.replace(/\/\/[^.]*\./, '//');

const stream = new EventSource('/icingaweb2/notifications/v1/subscribe', { withCredentials: true });

stream.addEventListener('open', say);
stream.addEventListener('error', say);
stream.addEventListener('icinga2.notification', (event) => {
  const { severity, title, message } = JSON.parse(event.data).payload;
  const card = document.createElement('li');
  card.dataset.id = event.lastEventId;
  card.dataset.severity = severity;
  card.append(text('strong', title), text('em', severity), text('span', message), text('small', ''));
  cards.prepend(card);
  const at = performance.timeOrigin + performance.now();
  parent.postMessage({ id: Number(event.lastEventId), title, body: message, at }, page);
});

function text(name, content) {
  const element = document.createElement(name);
  element.textContent = content;
  return element;
}

/** The result of a notification. */
window.addEventListener('message', (message) => {
  if (message.origin === page) {
    for (const card of cards.querySelectorAll(`[data-id="${message.data.id}"] small`)) {
      card.textContent = message.data.words;
    }
  }
});

/** The daemon ends streams all the time, and the browser comes back: that is the receipt. */
function say() {
  const signedOut = stream.readyState === EventSource.CLOSED;
  document.body.dataset.state = ['connecting', 'open', 'closed'][stream.readyState];
  state.textContent = signedOut ? 'signed out' : 'signed in';
  signIn.hidden = !signedOut;
}

signIn.addEventListener('click', () => location.reload());
