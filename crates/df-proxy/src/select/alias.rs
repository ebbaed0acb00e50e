//! The alias method (Walker 1977, Vose 1991): a draw by weight in constant time.

/// Drawn with probability `weight / sum of weights`.
#[derive(Debug, Default)]
pub(super) struct Alias {
    /// Below it the column itself, else the other; `u32::MAX` = always itself.
    columns: Box<[(u32, u32)]>,
}

impl Alias {
    pub(super) fn new(weights: &[u64]) -> Self {
        let n = weights.len();
        let sum: u128 = weights.iter().map(|w| u128::from(*w)).sum::<u128>().max(1);
        let mut scaled: Vec<f64> = weights.iter().map(|w| *w as f64 * n as f64 / sum as f64).collect();
        let mut columns: Vec<(u32, u32)> = (0..n).map(|i| (u32::MAX, i as u32)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|i| scaled[*i] < 1.0);
        while let (Some(s), Some(l)) = (small.pop(), large.last().copied()) {
            columns[s] = ((scaled[s] * f64::from(u32::MAX)) as u32, l as u32);
            scaled[l] -= 1.0 - scaled[s];
            if scaled[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        Self { columns: columns.into() }
    }

    /// A position; 0 if there is none.
    pub(super) fn draw(&self, random: u64) -> usize {
        let i = (((random >> 32) * self.columns.len() as u64) >> 32) as usize;
        match self.columns.get(i) {
            Some((own, other)) if (random as u32) >= *own && *own != u32::MAX => *other as usize,
            Some(_) | None => i,
        }
    }
}
