//! Every part is one thread's, and the memory comes back when the last part did.

use ff_kernels::host::claims::Claims;

#[test]
fn threads_fill_all_parts_once() {
    let claims = Claims::new(Box::new(vec![0_u32; 1003]), 10, 100);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(mut claim) = claims.claim() {
                    let part = claim.part() as u32;
                    claim.iter_mut().for_each(|value| *value += part + 1);
                }
            });
        }
    });
    assert!(claims.is_exhausted() && claims.is_complete());
    let values = claims.take().expect("all parts are back");
    assert!(values[..1000].iter().enumerate().all(|(i, &value)| value == i as u32 / 10 + 1));
    assert!(claims.take().is_none() && claims.claim().is_none());
}

#[test]
fn memory_stays_while_a_claim_lives() {
    let mut claims = Claims::new(Box::new(vec![0_u8; 4]), 2, 2);
    let first = claims.claim();
    drop(claims.claim());
    assert!(claims.claim().is_none() && claims.is_exhausted());
    assert!(claims.take().is_none(), "one part is out");
    drop(first);
    assert_eq!(claims.take().map(|values| values.len()), Some(4));
    assert!(claims.reclaim().is_none());
}

#[test]
fn unfinished_memory_can_be_reclaimed() {
    let mut claims = Claims::new(Box::new(vec![0_u8; 6]), 2, 3);
    std::mem::forget(claims.claim());
    assert!(claims.take().is_none());
    assert_eq!(claims.reclaim().map(|values| values.len()), Some(6));
    assert!(claims.claim().is_none());
}
