package h2_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/everyhop/everyhop/sidecar/wire/h2"
)

// service answers each kind of call.
type service struct {
	pb.UnimplementedTestServiceServer
}

func payload(n int) *pb.Payload { return &pb.Payload{Body: bytes.Repeat([]byte("x"), n)} }

func (service) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if s := in.GetResponseStatus(); s != nil {
		return nil, status.Error(codes.Code(s.Code), s.Message)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	grpc.SetHeader(ctx, metadata.Pairs("x-head", md.Get("x-ask")[0]))
	grpc.SetTrailer(ctx, metadata.Pairs("x-tail-bin", "\x00\xff"))
	return &pb.SimpleResponse{Payload: payload(int(in.ResponseSize))}, nil
}

func (service) StreamingOutputCall(in *pb.StreamingOutputCallRequest, to pb.TestService_StreamingOutputCallServer) error {
	for _, p := range in.ResponseParameters {
		if err := to.Send(&pb.StreamingOutputCallResponse{Payload: payload(int(p.Size))}); err != nil {
			return err
		}
	}
	return nil
}

func (service) StreamingInputCall(from pb.TestService_StreamingInputCallServer) error {
	total := 0
	for {
		in, err := from.Recv()
		if err == io.EOF {
			return from.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(total)})
		}
		if err != nil {
			return err
		}
		total += len(in.Payload.Body)
	}
}

func (service) FullDuplexCall(with pb.TestService_FullDuplexCallServer) error {
	for {
		in, err := with.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := with.Send(&pb.StreamingOutputCallResponse{Payload: payload(len(in.Payload.Body))}); err != nil {
			return err
		}
	}
}

// hop forwards everything, both ways at once.
func hop(to http.RoundTripper) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host, out.RequestURI = "http", r.Host, ""
		answer, err := to.RoundTrip(out)
		if err != nil {
			w.WriteHeader(502)
			return
		}
		defer answer.Body.Close()
		for key, values := range answer.Header {
			w.Header()[key] = values
		}
		w.WriteHeader(answer.StatusCode)
		if _, err := io.Copy(flushed{w}, answer.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		for key, values := range answer.Trailer {
			w.Header()[http.TrailerPrefix+key] = values
		}
	})
}

// T28, T32: grpc-go's client and server at both ends of a hop of ours.
func TestGRPC_EveryKindOfCall(t *testing.T) {
	served := grpc.NewServer()
	pb.RegisterTestServiceServer(served, service{})
	defer served.Stop()
	backend := ownServer(t, served)
	_, front := serve(t, h2.Config{Handler: hop(transport(t, h2.TransportConfig{Dial: dialer(backend)}))})
	cc, err := grpc.NewClient("passthrough:///"+front, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	client := pb.NewTestServiceClient(cc)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	t.Run("unary", func(t *testing.T) {
		var head, tail metadata.MD
		out, err := client.UnaryCall(metadata.AppendToOutgoingContext(ctx, "x-ask", "me"),
			&pb.SimpleRequest{ResponseSize: 314159, Payload: payload(271828)}, grpc.Header(&head), grpc.Trailer(&tail))
		if err != nil || len(out.Payload.Body) != 314159 {
			t.Fatal(err)
		}
		if head.Get("x-head")[0] != "me" || tail.Get("x-tail-bin")[0] != "\x00\xff" {
			t.Errorf("%v, %v", head, tail)
		}
	})
	t.Run("status", func(t *testing.T) {
		_, err := client.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: 9, Message: "\tno\n\u2028"}})
		if s := status.Convert(err); s.Code() != 9 || s.Message() != "\tno\n\u2028" {
			t.Error(err)
		}
		if _, err := client.EmptyCall(ctx, &pb.Empty{}); status.Code(err) != codes.Unimplemented {
			t.Error(err)
		}
	})
	t.Run("server stream", func(t *testing.T) {
		in := &pb.StreamingOutputCallRequest{}
		sizes := []int32{31415, 9, 2653, 58979, 0, 1 << 20}
		for _, size := range sizes {
			in.ResponseParameters = append(in.ResponseParameters, &pb.ResponseParameters{Size: size})
		}
		from, err := client.StreamingOutputCall(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range sizes {
			if out, err := from.Recv(); err != nil || len(out.Payload.Body) != int(size) {
				t.Fatal(err)
			}
		}
		if _, err := from.Recv(); err != io.EOF {
			t.Error(err)
		}
	})
	t.Run("client stream", func(t *testing.T) {
		to, err := client.StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if err := to.Send(&pb.StreamingInputCallRequest{Payload: payload(30_000)}); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := to.CloseAndRecv(); err != nil || out.AggregatedPayloadSize != 1_500_000 {
			t.Error(out, err)
		}
	})
	t.Run("ping-pong", func(t *testing.T) {
		with, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 200 {
			if err := with.Send(&pb.StreamingOutputCallRequest{Payload: payload(n * 100)}); err != nil {
				t.Fatal(err)
			}
			if out, err := with.Recv(); err != nil || len(out.Payload.Body) != n*100 {
				t.Fatal(err)
			}
		}
		with.CloseSend()
		if _, err := with.Recv(); err != io.EOF {
			t.Error(err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		with, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		with.Send(&pb.StreamingOutputCallRequest{Payload: payload(1)})
		with.Recv()
		cancel()
		if _, err := with.Recv(); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	})
}

// T28: a length prefix is nobody's business here, and costs nothing.
func TestGRPC_BrokenMessagesPassAsBytes(t *testing.T) {
	address := ownServer(t, http.HandlerFunc(echo))
	to := transport(t, h2.TransportConfig{Dial: dialer(address)})
	for _, message := range []string{"\x00\xff\xff\xff\xff", "\x02\x00\x00\x00\x01x", "\x00\x00\x00\x00\x09cut"} {
		r := request(t, "POST", "http://h.test/s/M", bytes.NewReader([]byte(message)))
		r.Header.Set("Content-Type", "application/grpc")
		if _, body := exchange(t, to, r); body != message {
			t.Errorf("%q came back as %q", message, body)
		}
	}
}
