import NIOCore
import Testing

@testable import HoldfastProtocol

@Suite struct PublicationTests {
    private func publication(position: Position? = nil, publishedAt: String? = nil, data: String = "{\"n\": 1.0}")
        -> Publication
    {
        Publication(
            subscription: "calls.call_1", data: ByteBuffer(string: data).inDirtyBuffer(), id: "e-1", sequence: 42,
            position: position,
            publishedAt: publishedAt, receivedAt: "RECEIVED"
        )
    }

    private func text(_ publication: Publication, _ dialect: Dialect, _ extras: [JSONObject.Member] = []) -> String {
        String(buffer: publication.event(dialect: dialect, sentAt: "SENT", extras: extras))
    }

    @Test func native() {
        #expect(
            self.text(self.publication(), .native)
                == #"{"event":"message","subscription":"calls.call_1","data":{"n": 1.0}}"#)
        #expect(
            self.text(self.publication(position: Position(epoch: "k3f9", offset: 42), publishedAt: "PUB"), .native)
                == #"{"event":"message","subscription":"calls.call_1","offset":42,"data":{"n": 1.0},"published_at":"PUB"}"#
        )
    }

    @Test func plain() {
        #expect(
            self.text(self.publication(), .plain)
                == #"{"event":"message","subscription":"calls.call_1","data":{"n": 1.0},"received_at":"RECEIVED","queue_size":0,"sent_at":"SENT"}"#
        )
        #expect(
            self.text(
                self.publication(position: Position(epoch: "k3f9", offset: 42), publishedAt: "PUB", data: "null"),
                .plain)
                == #"{"event":"message","subscription":"calls.call_1","data":null,"published_at":"PUB","received_at":"RECEIVED","queue_size":0,"sent_at":"SENT"}"#
        )
    }

    @Test func extras() throws {
        let extras = [
            JSONObject.Member(name: "zeta", value: try JSONValue(parsing: ByteBuffer(string: "[1, 2]"))),
            JSONObject.Member(name: "al\"pha", value: try JSONValue(parsing: ByteBuffer(string: "null"))),
        ]
        #expect(
            self.text(self.publication(), .plain, extras)
                == #"{"event":"message","subscription":"calls.call_1","data":{"n": 1.0},"received_at":"RECEIVED","queue_size":0,"zeta":[1, 2],"al\"pha":null,"sent_at":"SENT"}"#
        )
        #expect(
            self.text(self.publication(), .native, extras)
                == #"{"event":"message","subscription":"calls.call_1","data":{"n": 1.0},"zeta":[1, 2],"al\"pha":null}"#
        )
    }

    @Test(
        arguments: ["1.0", "\"\\ud800\"", "{\"a\":1,\"a\":2}", "[ ]", "\"\"", "12345678901234567890.0"],
        Dialect.allCases)
    func dataPassesByteForByte(_ data: String, _ dialect: Dialect) throws {
        let event = self.publication(data: data).event(dialect: dialect, sentAt: "")
        #expect(try JSONObject(parsing: event)["data"]?.text == data)
    }
}
