// Lets the compiler take functions without a body, such as programsMain.
