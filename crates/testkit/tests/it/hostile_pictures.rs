//! A hundred files that want harm, one after the other: each is refused or shown, and nobody grows or dies.

use crate::client;
use crate::cluster::{Cluster, Service};
use serde_json::json;
use std::time::Duration;

/// How much a service may grow over the last fifty files.
const MAX_GROWTH_MIB: u64 = 48;

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    let checksum = crc32fast::hash(&body).to_be_bytes();
    [&(data.len() as u32).to_be_bytes()[..], &body, &checksum].concat()
}

/// A PNG whose header says what it likes.
fn png(width: u32, height: u32, colour_type: u8, packed: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, colour_type, 0, 0, 0]].concat();
    let chunks = [chunk(b"IHDR", &header), chunk(b"IDAT", packed), chunk(b"IEND", b"")].concat();
    [b"\x89PNG\r\n\x1a\n", &chunks[..]].concat()
}

/// Files that no loader may take, each with a name that looks like a picture.
fn hostile() -> Vec<Vec<u8>> {
    let empty = [0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01];
    let mut good = Vec::new();
    let picture = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, 99]));
    picture
        .write_to(&mut std::io::Cursor::new(&mut good), image::ImageFormat::Png)
        .expect("memory takes a picture");
    vec![
        Vec::new(),
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>".to_vec(),
        b"<?xml version='1.0'?><image><read filename='/etc/passwd'/><write filename='/tmp/x'/></image>"
            .to_vec(),
        b"push graphic-context\nviewbox 0 0 9 9\nimage over 0,0 9,9 'label:@/etc/passwd'".to_vec(),
        b"%!PS\n(%pipe%id) (r) file".to_vec(),
        b"GIF89a\xff\xff\xff\xff\x00\x00\x00\x2c".to_vec(),
        png(60_000, 60_000, 2, &empty),
        png(16_384, 16_384, 6, &empty),
        png(8_000, 8_000, 2, &empty),
        png(0, 4, 2, &empty),
        png(4, 4, 9, &empty),
        good[..good.len() / 2].to_vec(),
        good[..40].to_vec(),
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01".to_vec(),
        b"RIFF\xff\xff\xff\x7fWEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00\xff\xff\xff\xff\xff\xff".to_vec(),
        [&good[..20], &[0xff; 400]].concat(),
    ]
}

#[tokio::test]
async fn a_hundred_hostile_pictures_harm_nobody() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().await?;
    let files = hostile();
    let watched = [Service::Gateway, Service::Orchestrator, Service::StageImage];
    let mut half_way = Vec::new();
    for index in 0..100 {
        if index == 50 {
            half_way =
                watched.iter().map(|service| cluster.memory_mib(*service)).collect::<Result<_, _>>()?;
        }
        let name = format!("evil{index}.png");
        let part =
            reqwest::multipart::Part::bytes(files[index % files.len()].clone()).file_name(name.clone());
        let form = reqwest::multipart::Form::new().part("image", part);
        let upload = reqwest::Client::new().post(cluster.url("/upload/image")).multipart(form).send().await?;
        assert!(!upload.status().is_server_error(), "{name}: {}", upload.status());
        for view in ["preview=webp;80", "channel=rgb", "channel=a"] {
            let url = cluster.url(&format!("/view?filename={name}&type=input&{view}"));
            let seen = reqwest::get(url).await?;
            assert!(seen.status().as_u16() != 500, "{name} {view}: {}", seen.status());
        }
        // Named with its folder, so that the job runs even before the lists have been read again.
        let graph = json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": format!("{name} [input]")}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
        });
        let job = client::submit(&cluster, &graph).await?;
        let ended = client::wait(&cluster, &job).await?;
        assert_eq!(ended["status"], "failed", "{name}: {ended}");
        assert!(!ended["error"].to_string().contains("panicked"), "{name}: {ended}");
    }
    cluster.assert_all_alive()?;
    for (service, before) in watched.iter().zip(half_way) {
        let after = cluster.memory_mib(*service)?;
        println!("{service:?}: {before} MiB after 50 files, {after} MiB after 100");
        assert!(after <= before + MAX_GROWTH_MIB, "{service:?} grew from {before} to {after} MiB");
    }
    // The stack still works.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let graph = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 255}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "good"}}
    });
    let job = client::submit(&cluster, &graph).await?;
    client::picture(&cluster, &job).await?;
    // And what it saved can be loaded by its annotated name.
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "good_00001_.png [output]"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "again/x"}}
    });
    let job = client::submit(&cluster, &graph).await?;
    let again = client::picture(&cluster, &job).await?;
    assert_eq!(crate::pictures::pixels(&again).2, [0, 0, 255].repeat(64));
    Ok(())
}
