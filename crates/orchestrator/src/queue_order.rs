//! Where a job stands after it is moved. Pure: the queue goes in, new places come out.

/// A job that waits, and what its place in the queue follows from: jobs that were interrupted come first, and among
/// equals the smaller number.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    pub id: String,
    pub number: f64,
    pub resumed: bool,
}

/// What a move changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The moved job, and jobs behind it that had to make room. Empty when the job stands there already.
    pub placements: Vec<Placement>,
    /// The number of the next job that is queued at the end.
    pub next_number: f64,
}

/// Moves a job of the queue, which is given in order, before another of its jobs or to its end.
pub fn move_before(queue: &[Placement], id: &str, before: Option<&str>, next_number: f64) -> Order {
    let unchanged = Order { placements: Vec::new(), next_number };
    let Some(from) = queue.iter().position(|job| job.id == id) else { return unchanged };
    let others: Vec<&Placement> = queue.iter().filter(|job| job.id != id).collect();
    let to = match before {
        Some(before) if before == id => from,
        Some(before) => others.iter().position(|job| job.id == before).unwrap_or(others.len()),
        None => others.len(),
    };
    if to == from {
        return unchanged;
    }
    // A job that is put among those that come first, whatever their number, becomes one of them.
    let resumed = others.get(to).is_some_and(|next| next.resumed);
    let bound = |job: Option<&&Placement>| job.filter(|job| job.resumed == resumed).map(|job| job.number);
    let ahead = to.checked_sub(1).and_then(|index| bound(others.get(index)));
    let placed = |number| Placement { id: id.into(), number, resumed };
    match (ahead, bound(others.get(to))) {
        (Some(ahead), Some(behind)) => {
            let middle = ahead / 2.0 + behind / 2.0;
            if ahead < middle && middle < behind {
                return Order { placements: vec![placed(middle)], next_number };
            }
            let placements = make_room(placed(after(ahead)), &others[to..]);
            Order { next_number: beyond(next_number, queue, &placements), placements }
        }
        // The ends of the queue are where the next job would go, so that it comes after this one.
        (None, Some(behind)) if 0.0 - next_number < behind => {
            Order { placements: vec![placed(0.0 - next_number)], next_number: next_number + 1.0 }
        }
        (None, Some(behind)) => {
            Order { placements: vec![placed((behind - 1.0).min(behind.next_down()))], next_number }
        }
        (Some(ahead), None) if ahead >= next_number => {
            Order { placements: vec![placed(after(ahead))], next_number }
        }
        (_, None) => Order { placements: vec![placed(next_number)], next_number: next_number + 1.0 },
    }
}

/// The next number that leaves room.
fn after(number: f64) -> f64 {
    (number + 1.0).max(number.next_up())
}

/// Moves those behind a job on, as far as there is no room.
fn make_room(placed: Placement, behind: &[&Placement]) -> Vec<Placement> {
    let resumed = placed.resumed;
    let mut placements = vec![placed];
    for job in behind.iter().take_while(|job| job.resumed == resumed) {
        let last = placements[placements.len() - 1].number;
        if job.number > last {
            break;
        }
        placements.push(Placement { number: after(last), ..(*job).clone() });
    }
    placements
}

/// Keeps the end of the queue behind jobs that had to make room, unless somebody chose a number beyond it before.
fn beyond(next_number: f64, queue: &[Placement], placements: &[Placement]) -> f64 {
    let most = |jobs: &[Placement]| jobs.iter().map(|job| job.number).fold(f64::MIN, f64::max);
    if most(queue) >= next_number { next_number } else { next_number.max(most(placements).floor() + 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(numbers: &[(f64, bool)]) -> Vec<Placement> {
        let job = |(index, (number, resumed)): (usize, &(f64, bool))| Placement {
            id: index.to_string(),
            number: *number,
            resumed: *resumed,
        };
        numbers.iter().enumerate().map(job).collect()
    }

    /// The ids in queue order after a move. Ties keep their order, as they do in the store.
    fn moved(queue: &[Placement], order: &Order) -> Vec<Placement> {
        let mut jobs = queue.to_vec();
        for placement in &order.placements {
            let job = jobs.iter_mut().find(|job| job.id == placement.id).unwrap();
            *job = placement.clone();
        }
        jobs.sort_by(|a, b| (!a.resumed, a.number).partial_cmp(&(!b.resumed, b.number)).unwrap());
        jobs
    }

    #[test]
    fn jobs_take_the_place_between_their_neighbours() {
        let waiting = queue(&[(4.0, false), (5.0, false), (6.0, false)]);
        let place = |id, before| {
            let order = move_before(&waiting, id, before, 7.0);
            (order.placements.iter().map(|job| job.number).collect::<Vec<_>>(), order.next_number)
        };
        assert_eq!(place("2", Some("1")), (vec![4.5], 7.0));
        assert_eq!(place("2", Some("0")), (vec![-7.0], 8.0));
        assert_eq!(place("0", None), (vec![7.0], 8.0));
        for (id, before) in [("0", Some("0")), ("0", Some("1")), ("2", None)] {
            assert_eq!(place(id, before), (vec![], 7.0), "{id} before {before:?}");
        }
    }

    #[test]
    fn jobs_that_were_interrupted_stay_first() {
        let waiting = queue(&[(9.0, true), (1.0, false), (2.0, false)]);
        let order = move_before(&waiting, "2", Some("0"), 10.0);
        assert_eq!(order.placements, [Placement { id: "2".into(), number: -10.0, resumed: true }]);
        let order = move_before(&waiting, "2", Some("1"), 10.0);
        assert_eq!(order.placements, [Placement { id: "2".into(), number: -10.0, resumed: false }]);
        let order = move_before(&waiting, "0", None, 10.0);
        assert_eq!(order.placements, [Placement { id: "0".into(), number: 10.0, resumed: false }]);
    }

    #[test]
    fn equal_numbers_make_room() {
        let waiting = queue(&[(1.0, false), (1.0, false), (1.0, false), (2.5, false), (9.0, false)]);
        let order = move_before(&waiting, "4", Some("1"), 3.0);
        let ids: Vec<String> = moved(&waiting, &order).into_iter().map(|job| job.id).collect();
        assert_eq!(ids, ["0", "4", "1", "2", "3"]);
    }

    #[test]
    fn any_row_of_moves_ends_in_the_order_that_was_asked_for() {
        let mut state = 7_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut waiting =
            queue(&[(-3.0, true), (5.0, true), (0.0, false), (0.0, false), (1.0, false), (1e15, false)]);
        let mut next_number = 6.0;
        for _ in 0..5_000 {
            let id = waiting[random(waiting.len())].id.clone();
            let before = waiting.get(random(waiting.len() + 1)).map(|job| job.id.clone());
            let mut expected: Vec<String> = waiting.iter().map(|job| job.id.clone()).collect();
            if before.as_ref() != Some(&id) {
                expected.retain(|other| *other != id);
                let at = before.as_ref().and_then(|before| expected.iter().position(|other| other == before));
                expected.insert(at.unwrap_or(expected.len()), id.clone());
            }
            let order = move_before(&waiting, &id, before.as_deref(), next_number);
            next_number = order.next_number;
            waiting = moved(&waiting, &order);
            let ids: Vec<String> = waiting.iter().map(|job| job.id.clone()).collect();
            assert_eq!(ids, expected, "{id} before {before:?}: {order:?}");
            assert!(waiting.iter().all(|job| job.number.is_finite()));
        }
    }
}
