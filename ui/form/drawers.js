// Opens the drawer in which a control stands, and moves the focus there; what is in a closed drawer is built when it opens.
function openControl(desk, id, drawer = 'settings') {
  const head = desk.querySelector(`.drawer:is([id="${drawer}"], [id="image-${drawer}"]) > button`);
  if (!head) return;
  if (!head.classList.contains('open')) head.click();
  const find = (left) => {
    const fields = [...desk.querySelectorAll(`:is([id="${id}"], [id="image-${id}"]) :is(input, textarea, button)`)];
    const free = fields.filter((one) => one.offsetParent && !one.disabled);
    const field = free.find((one) => one.getAttribute('aria-pressed') === 'true') || free[0];
    if (field) {
      const show = () => field.scrollIntoView({ block: 'center' });
      show();
      field.focus({ preventScroll: true });
      // The cards of LoRAs, which come from the server, move what is below them.
      for (const soon of [300, 800, 1600]) setTimeout(() => { if (document.activeElement === field) show(); }, soon);
    }
    else if (left) setTimeout(() => find(left - 1), 50);
  };
  find(40);
}
