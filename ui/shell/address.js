// The address names what is on view: #/denoising/<run>/<step>, or #/<tab>/<what that tab says>?<what it filters>.  Back and Forward work,
// and a link opens what it names.
let tabs = null;
let run = '';
let step = null;
// What the address names and is not on view yet.
let coming = null;
// What tabs besides Denoising have on view, as they say it themselves: tab -> parts of the address.
const places = {};
// The same for what stands behind a question mark: what a tab filters.
const queries = {};
// Whether the user has pressed something since Denoising came on view: a run that opens then was chosen there.
let chosen = false;

// An address that was cut in the middle of a letter is read as it stands.
function decode(text) { try { return decodeURIComponent(text); } catch { return text; } }

function parse() {
  const [place, ...asked] = location.hash.replace(/^#\/?/, '').split('?');
  const [tab, ...parts] = place.split('/').map(decode);
  const [name, at] = parts;
  return { tab: tab || '', run: name || '', step: /^\d{1,4}$/.test(at || '') ? Number(at) - 1 : null, parts: parts.filter(Boolean), query: asked.join('?') };
}

function selected() { return tabs.querySelector('button[aria-selected="true"]')?.dataset.tabId || ''; }

// The first tab needs no address.
function first() { return tabs.querySelector('button[data-tab-id]')?.dataset.tabId || ''; }

function write(replace) {
  const tab = selected();
  if (!tab) return;
  const parts = [tab, ...(places[tab] || [])];
  if (tab === 'denoising' && run) parts.push(run, ...(step === null ? [] : [step + 1]));
  const hash = `#/${parts.map(encodeURIComponent).join('/')}${queries[tab] ? `?${queries[tab]}` : ''}`;
  if (hash === location.hash) return;
  history[replace ? 'replaceState' : 'pushState'](null, '', hash);
}

// Opens what the address names.
function follow() {
  const wanted = parse();
  coming = null;
  if (!wanted.tab) { trigger('go', { tab: first(), run: '' }); return; }
  if (wanted.tab !== 'denoising') { followPlace(wanted); return; }
  if (wanted.tab === selected() && (!wanted.run || wanted.run === run)) { goTo(wanted); return; }
  coming = wanted.run ? wanted : null;
  trigger('go', { tab: wanted.tab, run: wanted.run });
}

// A tab that was never opened reads the address itself.
function followPlace({ tab, parts, query }) {
  places[tab] = parts;
  queries[tab] = query;
  document.dispatchEvent(new CustomEvent('playground:open', { detail: { tab, parts, query } }));
  if (tab !== selected()) trigger('go', { tab, run: '' });
}

function goTo({ step: at }) {
  if (at !== null) document.dispatchEvent(new CustomEvent('playground:go', { detail: { index: at } }));
}

// The row of tabs is laid out after this component.
function begin() {
  tabs = document.querySelector('#tabs > .tab-wrapper');
  if (!tabs?.querySelector('button[aria-selected="true"]')) { if (element.isConnected) setTimeout(begin, 50); return; }
  new MutationObserver(() => {
    if (selected() === (parse().tab || first())) return;
    chosen = false;
    write(false);
  }).observe(tabs, { subtree: true, attributes: true, attributeFilter: ['aria-selected'] });
  window.addEventListener('popstate', follow);
  document.addEventListener('playground:step', moved);
  document.addEventListener('playground:place', placed);
  document.addEventListener('click', (event) => { if (event.target.closest?.('#inspector')) chosen = true; }, true);
  if (parse().tab) follow();
}

function placed({ detail: { tab, parts, replace, query } }) {
  places[tab] = parts;
  queries[tab] = query;
  if (tab === selected()) write(replace);
}

function moved(event) {
  const detail = event.detail || {};
  if (!detail.run) return;
  // The first picture needs no number.
  const name = detail.run.replace(/:0$/, '');
  // Another run within Denoising is a place of its own, to which Back returns; a step is not.
  const another = chosen && Boolean(run) && name !== run;
  if (another) chosen = false;
  run = name;
  step = detail.index;
  if (coming?.run === run) {
    const wanted = coming;
    coming = null;
    setTimeout(() => goTo(wanted));
  } else if (selected() === 'denoising') write(!another);
}

begin();
