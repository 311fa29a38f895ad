select amount * 2
