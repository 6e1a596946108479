// A page whose sign-in has ended, or that the server gives to another browser by now, says so and offers the way back.
(() => {
  const ask = window.fetch;
  const WAYS = {
    401: ['This browser is signed out. Sign in again; what you typed is kept.', 'Sign in again'],
    403: ['This page belongs to another sign-in. Load it again; what you typed is kept.', 'Load again'],
  };
  function say([text, label]) {
    if (document.querySelector('.signed-out')) return;
    const [line, words, button] = ['div', 'p', 'button'].map((name) => document.createElement(name));
    line.className = 'signed-out';
    line.setAttribute('role', 'alert');
    words.textContent = text;
    Object.assign(button, { type: 'button', className: 'quiet second', textContent: label });
    button.addEventListener('click', () => location.reload());
    line.append(words, button);
    (document.querySelector('.gradio-container') || document.body).append(line);
  }
  window.fetch = async (...asked) => {
    const answer = await ask(...asked);
    if (answer.status in WAYS && new URL(answer.url || '/', location.href).origin === location.origin) say(WAYS[answer.status]);
    return answer;
  };
})();
