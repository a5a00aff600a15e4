//! `docs/nodes.md` lists every node of the running stack.

use crate::client;
use crate::cluster::Cluster;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Set to write the page anew.
const UPDATE: &str = "UPDATE_DOCS";

/// What the node specs of both stages are compared with.
const COMFYUI: [&str; 2] = [
    include_str!("../../../stage-image/tests/fixtures/object_info.json"),
    include_str!("../../../stage-sampler/tests/fixtures/object_info.json"),
];

/// What does the work, said once for all nodes.
const ENGINES: &str = "Nodes that read or write picture files (`LoadImage`, `LoadImageMask`, `LoadImageOutput`, \
`WebcamCapture`, `SaveImage`, `PreviewImage`, `MaskPreview`, `ImageCompare`, `SaveAnimatedPNG`, `SaveAnimatedWEBP`, \
`SaveImageAdvanced`) decode and encode with ImageMagick 7, but for OpenEXR files, which keep 32 bits a sample. The other image and mask nodes are plain Rust on f32: ImageMagick's operators work \
on 16-bit integers, with other kernels, borders and thresholds, so they would not give ComfyUI's numbers and would round \
between nodes. Two nodes round to 8 bits because ComfyUI does: `ImageQuantize`, and resizing by `lanczos`.\n\n";

fn page(catalog: &Map<String, Value>) -> anyhow::Result<String> {
    let mut comfyui = BTreeMap::new();
    for text in COMFYUI {
        comfyui.extend(serde_json::from_str::<BTreeMap<String, Value>>(text)?);
    }
    let mut categories: BTreeMap<&str, BTreeMap<&str, &Value>> = BTreeMap::new();
    for (class, info) in catalog {
        let category = info["category"].as_str().unwrap_or_default();
        categories.entry(category).or_default().insert(class, info);
    }
    let missing: BTreeSet<_> = comfyui.keys().filter(|class| !catalog.contains_key(*class)).collect();
    let shared = comfyui.len() - missing.len();
    let mut page = String::from(
        "# Nodes\n\nGenerated from the catalog of a running stack by the test `node_list`; `UPDATE_DOCS=1` writes it \
         anew.\n\n",
    );
    writeln!(
        page,
        "{} nodes. Of the {} classes that ComfyUI 0.3.64 has in the same categories, {shared} are here and {} are \
         not yet.\n",
        catalog.len(),
        comfyui.len(),
        missing.len()
    )?;
    page += ENGINES;
    for (category, nodes) in &categories {
        writeln!(page, "## {category}\n\n| class | name | status | what it does |\n|---|---|---|---|")?;
        for (class, info) in nodes {
            let marks = ["deprecated", "experimental"].into_iter().filter(|mark| info[*mark] == true);
            let status = marks.chain((!comfyui.contains_key(*class)).then_some("not in 0.3.64"));
            let status: Vec<_> = std::iter::once("works").chain(status).collect();
            let words =
                |key: &str| info[key].as_str().unwrap_or_default().replace('|', "\\|").replace('\n', " ");
            let (name, text) = (words("display_name"), words("description"));
            writeln!(page, "| `{class}` | {name} | {} | {text} |", status.join(", "))?;
        }
        page.push('\n');
    }
    page += "## Not here yet\n\n| class | category |\n|---|---|\n";
    for class in missing {
        writeln!(page, "| `{class}` | {} |", comfyui[class]["category"].as_str().unwrap_or_default())?;
    }
    Ok(page)
}

#[tokio::test]
async fn the_page_of_nodes_is_what_the_stack_offers() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let catalog = client::get(&cluster, "/object_info").await?;
    let expected = page(catalog.as_object().expect("classes by name"))?;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/nodes.md");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &expected)?;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/nodes.md is out of date: run this test with {UPDATE}=1");
    Ok(())
}
