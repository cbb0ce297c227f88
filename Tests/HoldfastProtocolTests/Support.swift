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
