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

    /// As SocketShark 0.5.0 has it.
    @Test func plainWithoutTimes() {
        let publication = self.publication(publishedAt: "PUB")
        #expect(
            String(buffer: publication.event(dialect: .plain, sentAt: nil))
                == #"{"event":"message","subscription":"calls.call_1","data":{"n": 1.0}}"#
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

    private static let head = #"{"event":"message","subscription":"calls.call_1""#

    private func text(_ place: Publication.Place, _ dialect: Dialect, position: Position?) -> String {
        let publication = self.publication(position: position, data: "1")
        return String(buffer: publication.event(dialect: dialect, sentAt: "SENT", place: place))
    }

    @Test(
        arguments: [
            (.own, #","offset":42,"data":1}"#),
            (.none, #","data":1}"#),
            (.after(40, offset: 45), #","offset":45,"after":40,"data":1}"#),
            (.after(0, offset: .max), #","offset":18446744073709551615,"after":0,"data":1}"#),
        ] as [(Publication.Place, String)])
    func places(_ place: Publication.Place, _ tail: String) {
        #expect(self.text(place, .native, position: Position(epoch: "k3f9", offset: 42)) == Self.head + tail)
    }

    /// A topic without history has no places, and neither has the plain dialect.
    @Test(arguments: [.own, .none, .after(40, offset: 45)] as [Publication.Place])
    func noPlaces(_ place: Publication.Place) {
        #expect(self.text(place, .native, position: nil) == Self.head + #","data":1}"#)
        #expect(
            self.text(place, .plain, position: Position(epoch: "k3f9", offset: 42))
                == Self.head + #","data":1,"received_at":"RECEIVED","queue_size":0,"sent_at":"SENT"}"#)
    }

    private func gap(_ position: Position?) -> Publication {
        Publication(
            subscription: "calls.call_1", data: ByteBuffer(), id: "", sequence: 42, position: position,
            publishedAt: nil, receivedAt: "", isGap: true)
    }

    /// How much is missing is not known.
    @Test(
        arguments: [
            (Position(epoch: "k3f9", offset: 42), "43"), (Position(epoch: "k3f9", offset: 1), "2"), (nil, "null"),
        ] as [(Position?, String)])
    func gaps(_ position: Position?, _ next: String) {
        for place in [.own, .none, .after(1, offset: 2)] as [Publication.Place] {
            let event = self.gap(position).event(dialect: .native, sentAt: "SENT", place: place)
            #expect(
                String(buffer: event)
                    == #"{"event":"gap","subscription":"calls.call_1","after":null,"next":\#(next)}"#)
        }
    }

    @Test func isNoGapUnlessItSaysSo() {
        #expect(!self.publication().isGap)
        #expect(self.publication().conditions == nil)
    }
}
