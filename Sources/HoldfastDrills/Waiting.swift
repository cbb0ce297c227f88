/// How often a condition is looked at that is waited for, in milliseconds.
private let lookEveryMs = 10

/// Waits until `condition` gives something, at most until `deadline` (seconds of `clock`).
/// - Returns: `nil` after the deadline.
func wait<Value: Sendable>(
    _ clock: DrillClock,
    until deadline: Double,
    for condition: () async throws -> Value?
) async throws -> Value? {
    while true {
        if let value = try await condition() { return value }
        guard clock.now < deadline else { return nil }
        try await Task.sleep(for: .milliseconds(lookEveryMs))
    }
}

/// Lets the fault stand until then.
func pass(_ clock: DrillClock, until time: Double) async throws {
    let left = time - clock.now
    if left > 0 { try await Task.sleep(for: .seconds(left)) }
}
