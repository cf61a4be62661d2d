// What a script sends along with every request that changes something, to show that it comes from these pages.

// Headers for fetch: { method: "POST", headers: csrf({ "content-type": "application/json" }), … }.
export function csrf(headers = {}) {
  const token = document.querySelector('meta[name="csrf-token"]')?.content;
  return token ? { ...headers, "x-csrf-token": token } : headers;
}
