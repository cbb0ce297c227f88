import HoldfastFaults
import Testing

func faults(_ change: (inout Faults) -> Void) -> Faults {
    var faults = Faults()
    change(&faults)
    return faults
}

/// As ``withConnection``, with these faults.
func withFaults(
    _ change: (inout Faults) -> Void, _ body: (Connected) async throws -> Void
) async throws {
    var standing = Faults()
    change(&standing)
    let faults = standing
    try await withConnection { it in
        try await it.proxy.apply(faults)
        #expect(await it.proxy.faults == faults)
        try await body(it)
    }
}
