// One slider shows one epoch's figures and hides the others'.
for (const slider of document.querySelectorAll(".slider input")) {
  const frames = slider.closest("section").querySelectorAll(".frame");
  const show = () => frames.forEach((frame, i) => {
    frame.hidden = i !== +slider.value;
    if (!frame.hidden) slider.nextElementSibling.textContent = frame.dataset.name;
  });
  slider.addEventListener("input", show);
  show();
}
