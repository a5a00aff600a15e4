//! What the sides of guidance must have in common: areas, boxes and control networks.

use super::grounding::GroundedText;
use super::regions::Placed;

/// Gives every side the areas of the others, and the others the boxes and control networks of the first.
pub(super) fn share(sides: &mut [Vec<Placed>]) {
    for side in 0..sides.len() {
        for entry in sides[side].clone() {
            for (_, other) in sides.iter_mut().enumerate().filter(|(other, _)| *other != side) {
                add_counterpart(other, &entry);
            }
        }
    }
    if let Some((first, others)) = sides.split_first_mut() {
        for other in others {
            share_boxes(first, other);
            share_controls(first, other);
        }
    }
}

/// Gives a side an entry for the area of another side's entry, unless it has one.
fn add_counterpart(side: &mut Vec<Placed>, entry: &Placed) {
    let Some(area) = entry.area else { return };
    let covering = side.iter().filter(|other| other.area.is_none_or(|covers| covers.holds(&area)));
    // The smallest area that covers it; an entry for the whole picture only if there is none.
    let size = |other: &&Placed| other.area.map_or(usize::MAX, |a| a.width.saturating_mul(a.height));
    let Some(closest) = covering.min_by_key(size) else { return };
    if closest.area != Some(area) {
        let mut copy = entry.clone();
        copy.inputs = closest.inputs.clone();
        side.push(copy);
    }
}

/// Gives the boxes of a side's entries for the whole picture to those of another side that has none.
///
/// Both sides must see the boxes, or guidance would also lead towards the mere presence of boxes.
fn share_boxes(first: &[Placed], other: &mut Vec<Placed>) {
    let whole = |entry: &&Placed| entry.area.is_none();
    let boxes: Vec<&GroundedText> = first.iter().filter(whole).filter_map(|e| e.grounding.as_ref()).collect();
    let free: Vec<usize> = (0..other.len()).filter(|i| other[*i].area.is_none()).collect();
    if free.is_empty() || free.iter().any(|i| other[*i].grounding.is_some()) {
        return;
    }
    for (n, grounding) in boxes.into_iter().enumerate() {
        let at = free[n % free.len()];
        if other[at].grounding.is_none() {
            other[at].grounding = Some(grounding.clone());
        } else {
            let mut copy = other[at].clone();
            copy.grounding = Some(grounding.clone());
            other.push(copy);
        }
    }
}

/// Gives the control networks of the first side that are meant for all sides to another side, unless it has its own.
///
/// # Source
/// As ComfyUI does for its older node: entries for a part of the picture neither give nor get.
fn share_controls(first: &[Placed], other: &mut [Placed]) {
    let whole = |entry: &&mut Placed| entry.area.is_none();
    if other.iter().any(|entry| entry.area.is_none() && !entry.controls.is_empty()) {
        return;
    }
    let mut targets: Vec<&mut Placed> = other.iter_mut().filter(whole).collect();
    let count = targets.len();
    let shared = first
        .iter()
        .filter(|entry| entry.area.is_none() && entry.control_for_all && !entry.controls.is_empty());
    for (i, entry) in shared.enumerate().take_while(|_| count > 0) {
        targets[i % count].controls = entry.controls.clone();
    }
}
