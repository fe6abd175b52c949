//! The micro-kernel of every product of packed rows with filters: a small block of it in registers.
//!
//! 6 rows of 16 (12 vectors of AVX2 as accumulators, the BLIS scheme: Van Zee & van de Geijn 2015). AVX-512 takes 12
//! rows of two panels, 24 accumulators, or where there are few rows 6 of four: with fewer than two operations a load,
//! loads bind. Each step loads 16 filters' values a panel and broadcasts one value (bfloat16: a pair) a row.

use crate::cpu::simd::{Lanes, Simd};

/// Rows multiplied at once: what AVX2 has registers for.
pub(crate) const GROUP: usize = 6;

/// Bytes of a panel that are asked for ahead of their use: at one image filters come from memory, in streams that the
/// processor's own prefetching gives up at the end of each page.
const AHEAD: usize = 4096;

/// Packed rows, in groups of 6.
#[derive(Clone, Copy)]
pub(crate) struct Rows<E> {
    /// `[group][channels/16][6][16]`
    pub(crate) data: *const E,
    /// Elements between groups.
    pub(crate) group_stride: usize,
    /// How many.
    pub(crate) count: usize,
}

/// Panels of filters.
#[derive(Clone, Copy)]
pub(crate) struct Panels<E> {
    /// `[channels/STEP][16][STEP]`
    pub(crate) data: *const E,
    /// Elements between panels.
    pub(crate) stride: usize,
    /// How many.
    pub(crate) count: usize,
    /// Whether they are read from memory, for so few rows that this takes as long as the products: pairs of panels then
    /// ask ahead. Four at once, taken for few rows alone, always do.
    pub(crate) cold: bool,
}

/// Products `[row][16]` of each panel.
#[derive(Clone, Copy)]
pub(crate) struct Products {
    /// Of the first panel.
    pub(crate) data: *mut f32,
    /// Floats between panels.
    pub(crate) stride: usize,
    /// Whether they are added to what is there.
    pub(crate) add: bool,
}

/// `out[panel][row][0..16] (+)= sum over channels of rows[row][channel] * panels[panel][channel][0..16]`.
///
/// # Safety
/// `S` available; the pointers cover what the fields say, for `channels` channels (a multiple of 16).
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd, E: Lanes>(
    rows: Rows<E>,
    panels: Panels<E>,
    channels: usize,
    out: Products,
) {
    let mut panel = 0;
    while panel < panels.count {
        let left = panels.count - panel;
        // SAFETY: the caller's promises.
        unsafe {
            let filters = panels.data.add(panel * panels.stride);
            let out = Products { data: out.data.add(panel * out.stride), ..out };
            if S::GROUPS == 2 && left >= 4 && rows.count <= GROUP {
                multiply_panels::<S, E, 4, true>(rows, filters, panels.stride, channels, out);
                panel += 4;
            } else if S::GROUPS == 2 && left >= 2 && panels.cold {
                multiply_panels::<S, E, 2, true>(rows, filters, panels.stride, channels, out);
                panel += 2;
            } else if S::GROUPS == 2 && left >= 2 {
                multiply_panels::<S, E, 2, false>(rows, filters, panels.stride, channels, out);
                panel += 2;
            } else {
                multiply_panels::<S, E, 1, false>(rows, filters, panels.stride, channels, out);
                panel += 1;
            }
        }
    }
}

/// [`multiply`] for `P` panels.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn multiply_panels<S: Simd, E: Lanes, const P: usize, const COLD: bool>(
    rows: Rows<E>,
    filters: *const E,
    filter_stride: usize,
    channels: usize,
    out: Products,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut group = 0;
        let full = rows.count / GROUP;
        if S::GROUPS == 2 && P <= 2 {
            while group + 2 <= full {
                block::<S, E, 2, 6, P, COLD>(rows, group, filters, filter_stride, channels, out);
                group += 2;
            }
        }
        while group < full {
            block::<S, E, 1, 6, P, COLD>(rows, group, filters, filter_stride, channels, out);
            group += 1;
        }
        match rows.count % GROUP {
            1 => block::<S, E, 1, 1, P, COLD>(rows, group, filters, filter_stride, channels, out),
            2 => block::<S, E, 1, 2, P, COLD>(rows, group, filters, filter_stride, channels, out),
            3 => block::<S, E, 1, 3, P, COLD>(rows, group, filters, filter_stride, channels, out),
            4 => block::<S, E, 1, 4, P, COLD>(rows, group, filters, filter_stride, channels, out),
            5 => block::<S, E, 1, 5, P, COLD>(rows, group, filters, filter_stride, channels, out),
            _ => {}
        }
    }
}

/// [`multiply`] for `G` groups of rows from `group` on, of which the first `R` rows each are computed, and `P` panels.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn block<S: Simd, E: Lanes, const G: usize, const R: usize, const P: usize, const COLD: bool>(
    rows: Rows<E>,
    group: usize,
    filters: *const E,
    filter_stride: usize,
    channels: usize,
    out: Products,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let from = rows.data.add(group * rows.group_stride);
        let mut sums = [[[S::w_zero(); P]; R]; G];
        let mut at = filters;
        for block in 0..channels / 16 {
            let from = from.add(block * GROUP * 16);
            let mut lane = 0;
            while lane < 16 {
                let mut b = [E::row::<S>(at); P];
                for p in 1..P {
                    b[p] = E::row::<S>(at.add(p * filter_stride));
                }
                if COLD {
                    for p in 0..P {
                        S::prefetch(at.add(p * filter_stride).cast::<u8>().wrapping_add(AHEAD));
                    }
                }
                at = at.add(16 * E::STEP);
                for g in 0..G {
                    for r in 0..R {
                        for p in 0..P {
                            let a = from.add(g * rows.group_stride + r * 16 + lane);
                            sums[g][r][p] = E::multiply::<S>(a, b[p], sums[g][r][p]);
                        }
                    }
                }
                lane += E::STEP;
            }
        }
        for g in 0..G {
            for r in 0..R {
                for p in 0..P {
                    let to = out.data.add(p * out.stride + ((group + g) * GROUP + r) * 16);
                    let sum = sums[g][r][p];
                    S::w_store(to, if out.add { S::w_add(S::w_load(to), sum) } else { sum });
                }
            }
        }
    }
}
