// A button next to each of these controls: it draws five values of it. The controls are laid out before this component is.
const wanted = JSON.parse(props.value?.controls || '{}');

function add() {
  for (const [id, [setting, label]] of Object.entries(wanted)) {
    const block = document.getElementById(id);
    if (!block || block.querySelector('.show-me')) continue;
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'show-me';
    button.textContent = 'Show me';
    button.setAttribute('aria-label', `Show me what this does: ${label} at five values`);
    button.addEventListener('click', () => trigger('show', { setting }));
    block.append(button);
  }
}
add();
// Gradio draws what is inside of a closed drawer when it is first opened.
const drawer = element.closest('.form-column');
if (drawer) new MutationObserver(add).observe(drawer, { subtree: true, childList: true });
