//! Draws a box around every face of a photo and cuts them out: `boxes PHOTO OUT.png`.

#![expect(clippy::print_stdout, reason = "an example prints")]

use ff_faces::{Detector, FAIRFACE_PADDING, Options, Photo, chip};
use image::{Rgb, RgbImage};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(photo), Some(out)) = (arguments.next(), arguments.next()) else {
        return Err("expected a photo and the PNG to write".into());
    };
    let mut image = image::open(photo)?.to_rgb8();
    let pixels = image.clone().into_raw();
    let photo = Photo::new(image.width() as usize, image.height() as usize, &pixels)?;
    let faces = Detector::new(Options::default()).detect(&photo);
    for (i, face) in faces.iter().enumerate() {
        println!("{i}: {:?}, score {:?}, turned by {:.1} degrees", face.bounds, face.score, face.roll);
        let crop = chip(&photo, face, 224, FAIRFACE_PADDING);
        RgbImage::from_raw(224, 224, crop).expect("a chip is a square").save(format!("{out}.{i}.png"))?;
        let (x, y) = (face.bounds.x as i32, face.bounds.y as i32);
        let (width, height) = (face.bounds.width as i32, face.bounds.height as i32);
        let edges = (0..width).flat_map(|dx| [(x + dx, y), (x + dx, y + height)]);
        for (x, y) in edges.chain((0..height).flat_map(|dy| [(x, y + dy), (x + width, y + dy)])) {
            let inside = (0..image.width() as i32).contains(&x) && (0..image.height() as i32).contains(&y);
            if inside {
                image.put_pixel(x as u32, y as u32, Rgb([230, 159, 0]));
            }
        }
    }
    image.save(out)?;
    Ok(())
}
