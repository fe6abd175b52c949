//! The fused pass allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use ff_kernels::Level;
use ff_kernels::image::{ColorOp, Recipe, Rgb, augment};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread's allocations count: the test harness has a thread that allocates when it likes.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: hands every call to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_image_allocates_nothing() {
    let (width, height) = (37, 21);
    let pixels = vec![100; 3 * width * height];
    let mut out = vec![0.0; pixels.len()];
    let colors =
        [ColorOp::Hue(0.1), ColorOp::Saturation(1.2), ColorOp::Contrast(0.9), ColorOp::Brightness(1.1)];
    let maps = [[0.9, 0.1, 1.0, -0.1, 0.9, 2.0]; 2];
    // Feature detection keeps what it found.
    let levels: Vec<Level> = Level::available().collect();
    COUNTS.set(true);
    drop(std::hint::black_box(vec![1]));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert_eq!(before, 1, "they are counted");
    for &level in &levels {
        for maps in [&maps[..0], &maps] {
            let recipe = Recipe { mirrored: true, colors: &colors, maps, mean: [0.5; 3], std: [0.2; 3] };
            augment(level, Rgb { pixels: &pixels, width, height }, &recipe, &mut out);
        }
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}
