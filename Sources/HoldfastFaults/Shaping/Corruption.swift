import NIOCore

/// Turns a bit of one byte of a stream.
struct Corruption {
    /// Bytes that have passed.
    private var position = 0
    /// Those of the handshake.
    private var handshake = 0

    /// What has passed so far was the handshake of an upgrade.
    mutating func upgraded() {
        self.handshake = self.position
    }

    /// - Parameters:
    ///   - byte: which one, the first being 1.
    ///   - afterHandshake: whether the bytes of the handshake do not count.
    /// - Returns: whether it was in `bytes`.
    mutating func pass(_ bytes: inout ByteBuffer, corrupting byte: Int?, afterHandshake: Bool = false) -> Bool {
        defer { self.position += bytes.readableBytes }
        guard var byte else { return false }
        if afterHandshake { byte += self.handshake }
        guard byte > self.position, byte <= self.position + bytes.readableBytes else { return false }
        let index = bytes.readerIndex + byte - self.position - 1
        let value: UInt8 = bytes.getInteger(at: index)!
        bytes.setInteger(value ^ 1, at: index)
        return true
    }
}
