import NIOCore

/// The ways in which the network may hand over the same bytes.
enum Cut {
    /// Whole; byte by byte; in pieces of any length; whole, but inside a buffer with other bytes around.
    static func ways(_ bytes: [UInt8]) -> [[ByteBuffer]] {
        [
            [ByteBuffer(bytes: bytes)],
            bytes.map { ByteBuffer(bytes: [$0]) },
            Self.pieces(bytes),
            [Self.inDirtyBuffer(bytes)],
        ]
    }

    /// Requires that reading gives the same whichever way the bytes come.
    static func requireSame<Reading: Equatable>(
        _ bytes: [UInt8],
        _ what: String,
        read: ([ByteBuffer]) -> Reading
    ) -> Reading {
        let ways = Self.ways(bytes)
        let whole = read(ways[0])
        for (way, pieces) in ways.enumerated().dropFirst() {
            let other = read(pieces)
            let name = ["whole", "byte by byte", "in pieces of \(pieces.map(\.readableBytes))", "in a dirty buffer"][
                way]
            require(other == whole, "\(what) \(name) gives \(other), but whole \(whole)")
        }
        return whole
    }

    /// The same cuts each time for the same input, or a failure could not be repeated.
    private static func pieces(_ bytes: [UInt8]) -> [ByteBuffer] {
        var random = Random(seededBy: bytes)
        var pieces: [ByteBuffer] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let longest = random.next() % 2 == 0 ? 3 : UInt64(rest.count)
            let piece = rest.prefix(Int(random.next() % longest) + 1)
            rest = rest.dropFirst(piece.count)
            pieces.append(Self.inDirtyBuffer(Array(piece)))
        }
        return pieces
    }

    private static func inDirtyBuffer(_ bytes: [UInt8]) -> ByteBuffer {
        var buffer = ByteBuffer(bytes: [0x7B, 0x81, 0x2A] + bytes + [0x7D, 0x0A, 0x22])
        buffer.moveReaderIndex(forwardBy: 3)
        buffer.moveWriterIndex(to: buffer.writerIndex - 3)
        return buffer
    }
}

/// Seeded by the input (FNV-1a), so that all that a target decides at random is repeated with it.
struct Random: RandomNumberGenerator {
    private var state: UInt64 = 0xCBF2_9CE4_8422_2325

    init(seededBy bytes: [UInt8]) {
        for byte in bytes { self.state = (self.state ^ UInt64(byte)) &* 0x0100_0000_01B3 }
    }

    /// SplitMix64.
    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

extension ByteBuffer {
    var array: [UInt8] { Array(self.readableBytesView) }
}

extension [UInt8] {
    /// The lines of an input that is several messages: what stands between line feeds.
    var lines: [[UInt8]] { self.split(separator: 0x0A, omittingEmptySubsequences: true).map(Array.init) }
    var text: String { String(decoding: self, as: UTF8.self) }
}
