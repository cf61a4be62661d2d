// The form of an experiment, in the order of its file.
import { faultsSection } from "./faults.js";
import { areaField, section, textField } from "./fields.js";
import { loadSection } from "./load.js";
import { objectivesSections } from "./objectives.js";
import { targetReference } from "./reference.js";
import { scenariosSection } from "./scenarios.js";

export const EXPERIMENT_ORDER = ["version", "name", "description", "target", "load", "scenarios", "faults", "objectives", "steady_state", "guards", "audits"];

export function experimentForm(ctx) {
  return [
    section(ctx, "about", "Experiment", ["name", "description", "version"], [
      textField(ctx, ["name"], "Name", { required: true, hint: "Runs of the same name are compared with each other." }),
      areaField(ctx, ["description"], "Description", { rows: 2 }),
    ]),
    ...targetReference(ctx),
    loadSection(ctx),
    scenariosSection(ctx),
    faultsSection(ctx),
    ...objectivesSections(ctx),
  ];
}
