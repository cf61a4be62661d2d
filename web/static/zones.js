// Time zones in forms: offers the browser's list, and fills an empty field with the viewer's own.

const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
const list = document.createElement("datalist");
list.id = "zones";
for (const zone of Intl.supportedValuesOf?.("timeZone") ?? []) {
  list.append(new Option(zone, zone));
}
document.body.append(list);
for (const field of document.querySelectorAll("input[data-zone]")) {
  field.setAttribute("list", "zones");
  if (!field.value && own) field.value = own;
}
