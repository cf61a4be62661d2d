// Applies the chosen theme before the first paint; the button that chooses it is in page.js.
(() => {
  try {
    const theme = localStorage.getItem("kennel-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden; then the system's preference stands.
  }
})();
