// Each browser tab has states of its own.  Gradio keeps them in localStorage, which all tabs of a browser share: a tab
// that reloads after a lost connection would show another tab's picture.  Here a tab reads what it wrote itself, or
// what was there when it was opened; a new tab begins with the latest of all.
(() => {
  const PREFIX = 'diffusion-playground-';
  const OPENED = `${PREFIX}opened`;
  const isOwn = (store, key) => store === window.localStorage && String(key).startsWith(PREFIX);
  const { getItem, setItem } = Storage.prototype;
  try {
    if (!getItem.call(window.sessionStorage, OPENED)) {
      for (const key of Object.keys(window.localStorage)) {
        if (key.startsWith(PREFIX)) setItem.call(window.sessionStorage, key, getItem.call(window.localStorage, key));
      }
      setItem.call(window.sessionStorage, OPENED, '1');
    }
  } catch {
    return; // the browser keeps nothing for a tab
  }
  Storage.prototype.getItem = function (key) {
    return getItem.call(isOwn(this, key) ? window.sessionStorage : this, key);
  };
  Storage.prototype.setItem = function (key, value) {
    if (isOwn(this, key)) setItem.call(window.sessionStorage, key, value);
    setItem.call(this, key, value);
  };
})();
