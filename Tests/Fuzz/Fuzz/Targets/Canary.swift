import HoldfastProtocol
import NIOCore
import RESP

/// Planted bugs. A run that does not find them proves nothing about the rest, so `scripts/fuzz` looks for them first, from a
/// corpus of one valid frame.
extension FuzzTarget {
    static let canaryTrap = FuzzTarget(
        name: "canary-trap",
        about: "planted: traps on three bytes behind a valid frame header; must be found",
        maxBytes: 5
    ) { bytes in
        var parser = WebSocketParser(role: .client)
        parser.append(ByteBuffer(bytes: bytes))
        guard case .binary(let payload)? = try? parser.next() else { return }
        if payload.readableBytes == 3 { Self.first(payload.array) }
    }

    // Never inlined: the optimizer would make one comparison of the three, and coverage could not show the way.

    @inline(never)
    private static func first(_ magic: [UInt8]) { if magic[0] == 0xC0 { Self.second(magic) } }

    @inline(never)
    private static func second(_ magic: [UInt8]) { if magic[1] == 0xFF { Self.third(magic) } }

    @inline(never)
    private static func third(_ magic: [UInt8]) { if magic[2] == 0xEE { fatalError("canary: the trap") } }

    static let canaryProperty = FuzzTarget(
        name: "canary-property",
        about: "planted: a property that is off by one; must be found",
        maxBytes: 64
    ) { bytes in
        var limits = RESPParser.Limits()
        limits.depth = 3
        var parser = RESPParser(limits: limits)
        parser.append(ByteBuffer(bytes: bytes))
        while let value = try? parser.next() {
            // The limit allows 3.
            require(Self.depth(value) < limits.depth, "canary: nested \(limits.depth) deep")
        }
    }

    private static func depth(_ value: RESPValue) -> Int {
        guard case .array(let elements) = value else { return 0 }
        return 1 + (elements.map(Self.depth).max() ?? 0)
    }
}
