// Grafana's types as they are in JSON. tests/machines/parsed.rs writes each part of the dashboard as a literal of one of
// these, so that the compiler finds unknown keys, missing ones and wrong values.
import type { Dashboard, DataQuery } from "@grafana/schema";
import type * as heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as statetimeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// An enum's members are their values.
export type Plain<T> = T extends string
  ? `${T}`
  : T extends readonly (infer Item)[]
    ? Plain<Item>[]
    : T extends object
      ? { [Key in keyof T]: Plain<T[Key]> }
      : T;

// Of each kind of panel: its options, and the configuration of its fields beyond what all have.
export type Panels = {
  heatmap: { options: Plain<heatmap.Options>; custom: Plain<heatmap.FieldConfig> };
  stat: { options: Plain<stat.Options>; custom: undefined };
  "state-timeline": { options: Plain<statetimeline.Options>; custom: Plain<statetimeline.FieldConfig> };
  table: { options: Plain<table.Options>; custom: Plain<table.FieldConfig> };
  timeseries: { options: Plain<timeseries.Options>; custom: Plain<timeseries.FieldConfig> };
  row: { options: undefined; custom: undefined };
};

export type Whole = Plain<Dashboard>;

// Those of Prometheus's data source, which has no package of types of its own.
export type Query = Plain<DataQuery> & {
  expr: string;
  legendFormat: string;
  range?: boolean;
  instant?: boolean;
  format?: "time_series" | "table" | "heatmap";
};

