/** Types litegraph declares but does not export from its entry. */

export type { IBaseWidget } from "@comfyorg/litegraph/dist/types/widgets";
export type { ISerialisedNode } from "@comfyorg/litegraph/dist/types/serialisation";
