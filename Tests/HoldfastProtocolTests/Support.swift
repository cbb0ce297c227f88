import NIOCore

extension ByteBuffer {
    /// The same bytes in the middle of a buffer that holds other things before and after: nobody may look outside.
    func inDirtyBuffer() -> ByteBuffer {
        var buffer = ByteBuffer(bytes: [0xFF, UInt8(ascii: "{"), 0x00, 0x81, 0x05])
        buffer.writeImmutableBuffer(self)
        let end = buffer.writerIndex
        buffer.writeBytes([UInt8(ascii: "}"), 0xC3, 0x00, UInt8(ascii: ","), 0xFF])
        buffer.moveWriterIndex(to: end)
        buffer.moveReaderIndex(forwardBy: 5)
        return buffer
    }
}

/// A seeded generator (SplitMix64), so that a run can be repeated.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { self.state = seed }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
