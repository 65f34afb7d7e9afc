package policy

// Distance is distance, for its fuzz test.
var Distance = distance
