//! Uploads, `/view`, and names that try to leave their folders.

use crate::gateway::{Answer, Gateway, answer};
use reqwest::multipart::{Form, Part};
use serde_json::json;
use std::io::Cursor;

async fn upload(
    gateway: &Gateway,
    route: &str,
    name: &str,
    content: &[u8],
    fields: &[(&str, &str)],
) -> Answer {
    let part = Part::bytes(content.to_vec()).file_name(name.to_owned());
    let form = fields.iter().fold(Form::new().part("image", part), |form, (name, value)| {
        form.text(name.to_string(), value.to_string())
    });
    answer(gateway.http.post(gateway.url(route)).multipart(form)).await
}

fn png(alpha: u8) -> Vec<u8> {
    let picture = image::RgbaImage::from_pixel(4, 3, image::Rgba([10, 20, 30, alpha]));
    let mut bytes = Cursor::new(Vec::new());
    image::DynamicImage::ImageRgba8(picture).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[tokio::test]
async fn what_is_uploaded_can_be_seen() {
    let gateway = Gateway::start().await;
    let picture = png(255);
    for (content, fields, expected) in [
        (&picture[..], &[][..], "up_a.png"),
        (&picture, &[], "up_a.png"),
        (b"another", &[], "up_a (1).png"),
        (b"another", &[], "up_a (1).png"),
        (b"third", &[], "up_a (2).png"),
        (b"fourth", &[("overwrite", "true")], "up_a.png"),
        (b"fifth", &[("overwrite", "1")], "up_a.png"),
    ] {
        let answer = upload(&gateway, "/upload/image", "up_a.png", content, fields).await;
        assert_eq!(answer, (200, json!({"name": expected, "subfolder": "", "type": "input"})));
        let file = expected.replace(' ', "%20");
        let url = gateway.url(&format!("/api/view?filename={file}&type=input&rand=0.3"));
        let response = gateway.http.get(url).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "image/png");
        assert_eq!(response.headers()["content-disposition"], format!("filename=\"{expected}\""));
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(&response.bytes().await.unwrap()[..], content);
    }
    let fields = [("type", "temp"), ("subfolder", "sub/dir")];
    let answer = upload(&gateway, "/api/upload/image", "t.png", b"t", &fields).await;
    assert_eq!(answer, (200, json!({"name": "t.png", "subfolder": "sub/dir", "type": "temp"})));
    assert_eq!(std::fs::read(gateway.path("temp/sub/dir/t.png")).unwrap(), b"t");
    assert_eq!(gateway.get("/view?filename=t.png&type=temp&subfolder=sub/dir").await.0, 200);
    assert_eq!(gateway.get("/view?filename=up_a.png%20%5Binput%5D").await.0, 200);
    assert_eq!(gateway.get("/view?filename=any%2Fdir%2Fup_a.png&type=input").await.0, 200);
    assert_eq!(gateway.get("/internal/files/input").await.1.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn bad_uploads_are_refused() {
    let gateway = Gateway::start().await;
    for (name, fields) in [
        ("x.png", &[("type", "bogus")][..]),
        ("x.png", &[("subfolder", "../..")]),
        ("x.png", &[("subfolder", "/tmp")]),
        ("x.png", &[("subfolder", "a\\b")]),
        ("../esc.png", &[]),
        ("a/b.png", &[]),
        ("..", &[]),
        ("", &[]),
    ] {
        let (status, error) = upload(&gateway, "/upload/image", name, b"x", fields).await;
        assert_eq!(status, 400, "{name} {fields:?}: {error}");
        assert!(error["error"]["message"].is_string());
    }
    for form in [Form::new().text("foo", "bar"), Form::new().text("image", "notafile")] {
        let request = gateway.http.post(gateway.url("/upload/image")).multipart(form);
        assert_eq!(answer(request).await.0, 400);
    }
    assert_eq!(gateway.post("/upload/image", "{}").await.0, 400);
    let (status, error) = upload(&gateway, "/upload/image", "big.png", &vec![0; 250_000], &[]).await;
    assert_eq!((status, &error["error"]["type"]), (413, &json!("payload_too_large")));
    for folder in ["input", "output", "temp"] {
        assert_eq!(std::fs::read_dir(gateway.path(folder)).unwrap().count(), 0, "{folder}");
    }
}

#[tokio::test]
async fn masks_become_alpha() {
    let gateway = Gateway::start().await;
    gateway.write("input/up_a.png", png(255));
    let reference = r#"{"filename": "up_a.png", "type": "input", "subfolder": ""}"#;
    let answer = upload(&gateway, "/upload/mask", "m.png", &png(7), &[("original_ref", reference)]).await;
    assert_eq!(answer, (200, json!({"name": "m.png", "subfolder": "", "type": "input"})));
    let result = image::open(gateway.path("input/m.png")).unwrap().to_rgba8();
    assert_eq!(result.get_pixel(3, 2).0, [10, 20, 30, 7]);
    for fields in [
        &[][..],
        &[("original_ref", "nope")],
        &[("original_ref", r#"{"filename": "../up_a.png", "type": "input"}"#)],
    ] {
        assert_eq!(upload(&gateway, "/upload/mask", "n.png", &png(7), fields).await.0, 400, "{fields:?}");
    }
    let missing = [("original_ref", r#"{"filename": "no.png", "type": "input"}"#)];
    assert_eq!(upload(&gateway, "/upload/mask", "n.png", &png(7), &missing).await.0, 404);
}

#[tokio::test]
async fn pictures_are_served_in_parts_and_in_other_forms() {
    let gateway = Gateway::start().await;
    gateway.write("output/a.png", png(9));
    gateway.write("output/page.html", "<script>");
    gateway.write("output/v.svg", "<svg/>");
    gateway.write("output/notimage.png", "this is not a png");
    let whole = png(9);
    for (range, status, part) in [
        ("bytes=0-9", 206, &whole[..10]),
        ("bytes=-5", 206, &whole[whole.len() - 5..]),
        ("bytes=999999-", 416, &[]),
        ("bytes=0-4,6-9", 416, &[]),
        ("junk", 416, &[]),
    ] {
        let request = gateway.http.get(gateway.url("/view?filename=a.png")).header("range", range);
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{range}");
        if status == 206 {
            assert_eq!(&response.bytes().await.unwrap()[..], part, "{range}");
        }
    }
    for (query, mime) in [
        ("filename=a.png&channel=rgba", "image/png"),
        ("filename=a.png&channel=rgb", "image/png"),
        ("filename=a.png&channel=a", "image/png"),
        ("filename=a.png&preview=webp;90", "image/webp"),
        ("filename=a.png&preview=jpeg;50", "image/jpeg"),
        ("filename=page.html", "application/octet-stream"),
        ("filename=v.svg", "image/svg+xml"),
    ] {
        let response = gateway.http.get(gateway.url(&format!("/view?{query}"))).send().await.unwrap();
        assert_eq!(response.status(), 200, "{query}");
        assert_eq!(response.headers()["content-type"], mime, "{query}");
        assert!(response.headers()["content-security-policy"].to_str().unwrap().contains("sandbox"));
    }
    for query in [
        "filename=notimage.png&preview=webp;90",
        "filename=notimage.png&channel=a",
        "filename=a.png&preview=webp;500",
    ] {
        assert_eq!(gateway.get(&format!("/view?{query}")).await.0, 400, "{query}");
    }
    let head = gateway.http.head(gateway.url("/view?filename=a.png")).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], whole.len().to_string().as_str());
}

#[tokio::test]
async fn no_name_leads_out_of_its_folder() {
    let gateway = Gateway::start().await;
    gateway.write("secret.png", "TOP-SECRET");
    gateway.write("user/secret.png", "TOP-SECRET");
    gateway.write("output/a.png", "fine");
    gateway.write("ui/index.html", "page");
    std::os::unix::fs::symlink(gateway.path("secret.png"), gateway.path("output/link.png")).unwrap();
    std::os::unix::fs::symlink(gateway.path("."), gateway.path("output/dir")).unwrap();
    std::os::unix::fs::symlink(gateway.path("secret.png"), gateway.path("ui/link.png")).unwrap();
    let absolute = gateway.path("secret.png").display().to_string().replace('/', "%2F");
    let paths = [
        "/view?filename=../secret.png".to_owned(),
        "/view?filename=..%2Fsecret.png".to_owned(),
        "/view?filename=%2e%2e%2fsecret.png".to_owned(),
        "/view?filename=..%5Csecret.png".to_owned(),
        "/view?filename=....//secret.png".to_owned(),
        "/view?filename=secret.png%00.png".to_owned(),
        "/view?filename=secret.png&subfolder=..".to_owned(),
        "/view?filename=secret.png&subfolder=%2e%2e".to_owned(),
        "/view?filename=secret.png&subfolder=a/../..".to_owned(),
        "/view?filename=secret.png&subfolder=..%2f..".to_owned(),
        "/view?filename=link.png".to_owned(),
        "/view?filename=secret.png&subfolder=dir".to_owned(),
        format!("/view?filename={absolute}"),
        format!("/view?filename=secret.png&subfolder={}", absolute.trim_end_matches("%2Fsecret.png")),
        "/userdata/..%2Fsecret.png".to_owned(),
        "/userdata/%2e%2e%2fsecret.png".to_owned(),
        "/userdata/..%5Csecret.png".to_owned(),
        "/userdata/workflows%2F..%2F..%2Fsecret.png".to_owned(),
        format!("/userdata/{absolute}"),
        "/userdata?dir=..".to_owned(),
        "/userdata?dir=..%2F..".to_owned(),
        "/v2/userdata?path=..".to_owned(),
        "/../secret.png".to_owned(),
        "/%2e%2e/secret.png".to_owned(),
        "/..%2fsecret.png".to_owned(),
        "/assets/../../secret.png".to_owned(),
        "/%2e%2e%5csecret.png".to_owned(),
    ];
    for path in paths {
        let answer = gateway.raw(&format!("GET {path} HTTP/1.1\r\nHost: localhost")).await;
        let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
        assert!((400..500).contains(&status), "{path}: {answer}");
        assert!(!answer.contains("TOP-SECRET"), "{path}: {answer}");
        assert!(!answer.contains("secret.png\""), "{path} lists: {answer}");
    }
    for path in ["/userdata/..%2Fnew.json", "/userdata/%2Fnew.json", "/userdata/a%2F..%2F..%2Fnew.json"] {
        let answer =
            gateway.raw(&format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0")).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
    }
    gateway.write("user/default/mine.json", "{}");
    for path in ["/userdata/mine.json/move/..%2Fnew.json", "/userdata/..%2Fsecret.png/move/mine2.png"] {
        let answer =
            gateway.raw(&format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0")).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
    }
    assert!(!gateway.path("user/new.json").exists() && gateway.path("user/secret.png").exists());
    assert_eq!(gateway.get("/view?filename=a.png").await.0, 200);
}

#[tokio::test]
async fn view_says_what_is_wrong_as_comfyui_does() {
    let gateway = Gateway::start().await;
    gateway.write("input/example.png", "x");
    for (query, status) in [
        ("", 404),
        ("?filename=", 400),
        ("?filename=nosuch.png", 404),
        ("?filename=/etc/passwd", 400),
        ("?filename=a..b.png", 400),
        ("?filename=.&type=input", 404),
        ("?filename=example.png&type=bogus", 400),
        ("?filename=example.png&type=input&subfolder=../../..", 403),
        ("?filename=example.png&type=input&subfolder=%2Ftmp", 403),
        ("?filename=example.png&type=input&subfolder=nosuch", 404),
        ("?filename=example.png", 404),
        ("?filename=example.png&type=input", 200),
    ] {
        assert_eq!(gateway.get(&format!("/view{query}")).await.0, status, "{query}");
    }
}
