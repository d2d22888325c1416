"""Mathematical equivalence of two answers: screen, normal form, exact numbers, and a LaTeX parser behind them."""
