/// One parser, or a few that belong together, with what must hold for every input.
struct FuzzTarget: Sendable {
    let name: String
    /// What is read, and what is asserted, for `scripts/fuzz --list`.
    let about: String
    /// Longest input that is tried, in bytes.
    let maxBytes: Int
    /// Ends the process if something does not hold (``require(_:_:)``).
    let run: @Sendable ([UInt8]) -> Void

    static let all: [FuzzTarget] = [
        .framesServer, .framesClient, .json, .clientEvents, .wireEvents, .ladderMemory, .resp,
        .published, .configuration, .eventStream, .handshake, .names, .work, .canaryTrap, .canaryProperty,
    ]
}

/// A property of the code under test. Where it does not hold, the process ends, and libFuzzer keeps the input.
func require(_ condition: Bool, _ what: @autoclosure () -> String) {
    if !condition { fatalError("property broken: \(what())") }
}

/// The same for values that must be equal, however they were come by.
func requireSame<Value: Equatable>(_ left: Value, _ right: Value, _ what: @autoclosure () -> String) {
    if left != right { fatalError("property broken: \(what()): \(left) is not \(right)") }
}
