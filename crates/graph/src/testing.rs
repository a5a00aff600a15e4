//! Graph builders for the unit tests of this crate.

use crate::{Input, Link, ValidGraph, ValidNode};
use indexmap::IndexMap;
use std::collections::{BTreeMap, BTreeSet};

/// One node of a test graph: id, stage, output types, links that fill `in0`, `in1`, ...
pub(crate) type Row<'a> = (&'a str, &'a str, &'a [&'a str], &'a [(&'a str, u32)]);

/// Builds a graph from rows in topological order.
pub(crate) fn graph(rows: &[Row<'_>], outputs: &[&str]) -> ValidGraph {
    let node = |(id, stage, sockets, links): &Row<'_>| {
        let inputs: IndexMap<String, Input> = links
            .iter()
            .enumerate()
            .map(|(i, (node, slot))| {
                (format!("in{i}"), Input::Link(Link { node: (*node).into(), slot: *slot }))
            })
            .collect();
        let node = ValidNode {
            class: format!("Class{id}"),
            stage: (*stage).into(),
            inputs,
            output_types: sockets.iter().map(|&s| s.into()).collect(),
            output_node: outputs.contains(id),
            lazy: BTreeSet::new(),
            expands: false,
            fingerprint: Some(BTreeMap::new()),
        };
        ((*id).into(), node)
    };
    ValidGraph {
        nodes: rows.iter().map(node).collect(),
        outputs: outputs.iter().map(|&id| id.into()).collect(),
    }
}

/// ComfyUI's default workflow: checkpoint 4, latent 5, prompts 6 and 7, sampler 3, decoder 8, save 9.
pub(crate) fn text_to_image() -> ValidGraph {
    graph(
        &[
            ("4", "sampler", &["MODEL", "CLIP", "VAE"], &[]),
            ("5", "sampler", &["LATENT"], &[]),
            ("6", "sampler", &["CONDITIONING"], &[("4", 1)]),
            ("7", "sampler", &["CONDITIONING"], &[("4", 1)]),
            ("3", "sampler", &["LATENT"], &[("4", 0), ("6", 0), ("7", 0), ("5", 0)]),
            ("8", "sampler", &["IMAGE"], &[("3", 0), ("4", 2)]),
            ("9", "image", &[], &[("8", 0)]),
        ],
        &["9"],
    )
}
