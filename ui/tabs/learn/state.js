// What a chapter shows, as the end of the address #/learn/<chapter>/<state>.
// apply(parts): shows a state, and answers whether it could; what is not there yet is tried again by attempt().
function chapterState(live, apply) {
  // What the address asked for and is not on view yet.
  let wanted = null;
  const attempt = () => { if (wanted && apply(wanted)) wanted = null; };
  const go = ({ detail }) => {
    if (!element.isConnected) { document.removeEventListener('playground:lesson-go', go); return; }
    if (detail.live !== live) return;
    wanted = detail.state.length ? detail.state : null;
    attempt();
  };
  document.addEventListener('playground:lesson-go', go);
  return {
    attempt,
    // The user chose something else meanwhile.
    drop() { wanted = null; },
    tell(...parts) {
      if (wanted || element.closest('#learn')?.dataset.live !== live) return;
      document.dispatchEvent(new CustomEvent('playground:lesson', { detail: { live, state: parts.map(String) } }));
    },
  };
}
