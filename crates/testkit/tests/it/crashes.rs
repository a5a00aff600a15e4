//! Every service may be killed at any time: the job still ends once, with the same picture.

use crate::client::{self, Txt2Img};
use crate::cluster::{Cluster, Service};
use crate::pictures::pixels;

#[tokio::test]
async fn a_killed_service_costs_time_but_no_job() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().await?;
    // Long enough to be killed in the middle, short enough for a test.
    let workflow = |seed| Txt2Img { steps: 60, side: 128, seed, ..Txt2Img::default() }.api();
    for (seed, service) in (1..).zip(Service::ALL) {
        let job = client::submit(&cluster, &workflow(seed)).await?;
        client::wait_for_node(&cluster, &job, "3").await?;
        cluster.kill(service)?;
        cluster.spawn(service)?;
        cluster.wait_until_ready().await?;
        let disturbed = client::picture(&cluster, &job).await?;

        // The same graph from scratch: another prefix would still share the cached picture, so drop the results by
        // asking a fresh stack.
        let calm = Cluster::start().await?;
        let job_calm = client::submit(&calm, &workflow(seed)).await?;
        assert_eq!(
            pixels(&disturbed),
            pixels(&client::picture(&calm, &job_calm).await?),
            "{service:?} was killed"
        );

        let events = client::get_bytes_until(
            &cluster,
            &format!("/v1/events?job_id={job}&after=0"),
            "event: succeeded",
        )
        .await?;
        let count = client::endings(&events);
        assert_eq!(count, 1, "{service:?} was killed:\n{events}");
    }
    let saved = cluster.saved_pictures()?;
    assert_eq!(saved, Service::ALL.len(), "every job saved exactly one picture");
    Ok(())
}
