//! A bounds-checked front for the `gemm` crate.

/// A matrix inside a slice: element `(r, c)` is at `r * row_stride + c * column_stride`.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl View {
    /// Rows one after the other.
    pub(super) fn row_major(rows: usize, columns: usize) -> Self {
        Self { rows, columns, row_stride: columns, column_stride: 1 }
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn span(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// Whether the product replaces what is in the destination or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    Replace,
    Add,
}

/// Who computes the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// The calling thread; for use inside a parallel loop.
    One,
    All,
}

/// Computes `dst = lhs * rhs` or `dst += lhs * rhs`; each operand is a slice and the matrix in it.
///
/// # Panics
/// If the shapes do not match or a matrix reaches past the end of its slice.
pub(super) fn multiply(
    dst: (&mut [f32], View),
    lhs: (&[f32], View),
    rhs: (&[f32], View),
    write: Write,
    threads: Threads,
) {
    let ((dst, d), (lhs, l), (rhs, r)) = (dst, lhs, rhs);
    assert_eq!((d.rows, d.columns, l.columns), (l.rows, r.columns, r.rows), "matrix shapes do not match");
    assert!(
        d.span() <= dst.len() && l.span() <= lhs.len() && r.span() <= rhs.len(),
        "matrix exceeds its slice"
    );
    // Distinct elements of the destination must be distinct places, or the threads would write to the same one.
    let (inner, outer, inner_count) = if d.column_stride <= d.row_stride {
        (d.column_stride, d.row_stride, d.columns)
    } else {
        (d.row_stride, d.column_stride, d.rows)
    };
    assert!(inner >= 1 && outer >= inner * inner_count.max(1), "destination elements overlap");
    let parallelism = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(rayon::current_num_threads()),
    };
    // SAFETY: all three matrices lie inside their slices, which the asserts above check; the destination is borrowed
    // exclusively and its elements do not overlap.
    unsafe {
        gemm::gemm(
            d.rows,
            d.columns,
            l.columns,
            dst.as_mut_ptr(),
            d.column_stride as isize,
            d.row_stride as isize,
            write == Write::Add,
            lhs.as_ptr(),
            l.column_stride as isize,
            l.row_stride as isize,
            rhs.as_ptr(),
            r.column_stride as isize,
            r.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Threads, View, Write, multiply};

    #[test]
    fn strides_and_accumulation() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let mut c = [10.0f32; 6];
        let view = View { rows: 2, columns: 2, row_stride: 3, column_stride: 1 };
        let lhs = View::row_major(2, 3);
        multiply((&mut c, view), (&a, lhs), (&b, View::row_major(3, 2)), Write::Add, Threads::One);
        assert_eq!(c, [14.0, 15.0, 10.0, 20.0, 21.0, 10.0]);
        let mut c = [0.0f32; 9];
        let square = View::row_major(3, 3);
        multiply((&mut c, square), (&a, lhs.transposed()), (&a, lhs), Write::Replace, Threads::All);
        assert_eq!(c, [17.0, 22.0, 27.0, 22.0, 29.0, 36.0, 27.0, 36.0, 45.0]);
    }

    #[test]
    #[should_panic(expected = "exceeds its slice")]
    fn short_slices_are_caught() {
        let view = View::row_major(2, 2);
        multiply((&mut [0.0; 3], view), (&[0.0; 4], view), (&[0.0; 4], view), Write::Replace, Threads::One);
    }
}
